//! The other process of a subject: this binary again, in a named role.
//!
//! Driver and helper speak one word a line through the helper's standard input and output, for setting up and
//! for saying that the last message has arrived. What is measured never travels here.

use super::Result;
use rustix::process::{Signal, set_parent_process_death_signal};
use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// First argument of a helper.
pub(crate) const SUBCOMMAND: &str = "helper";

/// A running helper, as its driver sees it; killed when dropped.
pub(crate) struct Helper {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts a helper of that concept; the arguments say which role it plays.
    pub(crate) fn start(concept: &str, arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .args([SUBCOMMAND, concept])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child
            .stdin
            .take()
            .ok_or("the helper has no standard input")?;
        let output = child
            .stdout
            .take()
            .ok_or("the helper has no standard output")?;
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
        })
    }

    /// Waits for the helper to say something and returns it.
    pub(crate) fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        match line.trim() {
            "" => Err(format!("a helper ended early: {}", self.child.wait()?).into()),
            said => match said.strip_prefix("error: ") {
                Some(error) => Err(format!("a helper failed: {error}").into()),
                None => Ok(said.to_owned()),
            },
        }
    }

    /// Waits for the helper to say that word.
    pub(crate) fn expect(&mut self, word: &str) -> Result<()> {
        match self.hear()? {
            said if said == word => Ok(()),
            said => Err(format!("a helper said {said} and not {word}").into()),
        }
    }

    /// Says that word to the helper.
    pub(crate) fn tell(&mut self, word: &str) -> Result<()> {
        Ok(writeln!(self.input, "{word}")?)
    }

    /// Waits for the helper to end of its own accord.
    pub(crate) fn finish(mut self) -> Result<()> {
        match self.child.wait()? {
            status if status.success() => Ok(()),
            status => Err(format!("a helper ended badly: {status}").into()),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Both fail only where the helper has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays a helper's role and passes its error to the driver; the role ends when the driver does.
pub(crate) fn run(role: impl FnOnce() -> Result<()>) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    role().inspect_err(|error| {
        // If the driver is gone there is nobody left to tell.
        let _ = say(&format!("error: {error}"));
    })
}

/// Says one line to the driver.
pub(crate) fn say(line: &str) -> Result<()> {
    let mut output = stdout().lock();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}

/// Waits for the driver to say that word.
pub(crate) fn expect(word: &str) -> Result<()> {
    let mut line = String::new();
    stdin().read_line(&mut line)?;
    match line.trim() {
        said if said == word => Ok(()),
        said => Err(format!("the driver said {said:?} and not {word}").into()),
    }
}
