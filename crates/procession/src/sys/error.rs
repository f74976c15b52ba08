//! What was attempted when a system call failed.
//!
//! `std::io::Error` holds either an error number or a message. Here it holds a message (what was attempted, on
//! which object) whose `source()` is the error with the number, so that neither hides the other.

use std::{error, fmt, io};

/// The attempt that failed; the cause is its `source()`.
#[derive(Debug)]
struct Failed {
    attempt: String,
    cause: io::Error,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.attempt)
    }
}

impl error::Error for Failed {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// An error that says `attempt` and keeps `cause`, with the same kind.
pub(crate) fn failed(attempt: impl Into<String>, cause: impl Into<io::Error>) -> io::Error {
    let cause = cause.into();
    io::Error::new(
        cause.kind(),
        Failed {
            attempt: attempt.into(),
            cause,
        },
    )
}

/// The error number, also of an error made by [`failed`].
pub(crate) fn errno(error: &io::Error) -> Option<i32> {
    error
        .raw_os_error()
        .or_else(|| errno(&error.get_ref()?.downcast_ref::<Failed>()?.cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    #[test]
    fn keeps_message_kind_and_number() {
        let inner = failed("open the file", io::Error::from_raw_os_error(libc::ENOENT));
        let outer = failed("start the program", inner);
        assert_eq!(outer.to_string(), "start the program");
        assert_eq!(outer.kind(), io::ErrorKind::NotFound);
        assert_eq!(errno(&outer), Some(libc::ENOENT));
        assert_eq!(
            outer.source().map(ToString::to_string).as_deref(),
            Some("open the file")
        );
        assert_eq!(errno(&io::Error::other("no number")), None);
    }
}
