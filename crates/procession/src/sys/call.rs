//! Calling a function that another process of the same build named.
//!
//! A function is a pair of code addresses: the function itself, and a *runner*, which knows the function's type (it is an instance of
//! a generic function) and takes the function as a pointer. Both travel as [`Location`]s.
//!
//! # Safety
//! [`Call::resolve`] turns two locations into function pointers and jumps. That is sound if the locations are those that [`Call::name`] (or one of its kin) made of
//! two functions whose types fit each other. [`resolve`] makes sure that the objects are the very builds they were taken from and that the addresses are code;
//! the seal, that the pair was made by `name`, for the same context type, and was not mangled on the way. Whoever forges a seal is a
//! member of the family, which is one trust domain (H6). All function pointers of one ABI have the same representation and may be passed for each other
//! (`core::primitive.fn`, "ABI compatibility").
#![expect(unsafe_code)]

use super::object::{Location, ResolveError, locate, resolve};
use serde::{Deserialize, Serialize};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::transmute;

/// What knows the type of a function `F`: calls it with what is in the context, and gives an exit code.
pub(crate) type Runner<F, C> = fn(F, &C) -> i32;

/// A pointer to a function of Rust's own ABI, whatever its parameters.
pub(crate) trait FunctionPointer: Copy {
    /// Where the function lies.
    fn address(self) -> usize;
}

macro_rules! function_pointers {
    ($(($($parameter:ident),+))*) => {
        $(impl<$($parameter,)+ R> FunctionPointer for fn($($parameter),+) -> R {
            fn address(self) -> usize {
                self as usize
            }
        })*
    };
}

function_pointers! { (A) (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) (A, B, C, D, E, F) }

/// A function and its runner, as every process of the same build understands them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Call {
    runner: Location,
    function: Location,
    seal: u64,
}

impl Call {
    /// Names `function`, to be called by `runner`. `None` if one of them lies in no object that can be identified.
    pub(crate) fn name<F: FunctionPointer, C: 'static>(
        runner: Runner<F, C>,
        function: F,
    ) -> Option<Self> {
        Self::at::<C>(runner as usize, function.address())
    }

    /// As [`Call::name`], for a function that changes a state, which its runner has to find.
    pub(crate) fn name_on_state<S, A, R, C: 'static>(
        runner: Runner<fn(&mut S, A) -> R, C>,
        function: fn(&mut S, A) -> R,
    ) -> Option<Self> {
        Self::at::<C>(runner as usize, function as usize)
    }

    /// As [`Call::name_on_state`], for a function that may be called several times with the same argument.
    pub(crate) fn name_attempt<S, A, R, C: 'static>(
        runner: Runner<fn(&mut S, &A) -> R, C>,
        function: fn(&mut S, &A) -> R,
    ) -> Option<Self> {
        Self::at::<C>(runner as usize, function as usize)
    }

    /// Of the two addresses, whose types fit each other.
    fn at<C: 'static>(runner: usize, function: usize) -> Option<Self> {
        let runner = locate(runner)?;
        let function = locate(function)?;
        let seal = seal::<C>(&runner, &function);
        Some(Self {
            runner,
            function,
            seal,
        })
    }

    /// Calls the runner with the function and `context`.
    pub(crate) fn run<C: 'static>(&self, context: &C) -> Result<i32, ResolveError> {
        Ok(self.resolve()?.run(context))
    }

    /// Finds the two functions in this process, to be called any number of times.
    pub(crate) fn resolve<C: 'static>(&self) -> Result<Resolved<C>, ResolveError> {
        let runner = resolve(&self.runner)?;
        let function = resolve(&self.function)?;
        if self.seal != seal::<C>(&self.runner, &self.function) {
            return Err(ResolveError::OutOfRange);
        }
        // SAFETY: the address of a function, see the header; it is only passed on.
        let function = unsafe { transmute::<usize, fn()>(function) };
        // SAFETY: the address of an instance of a `fn(fn(..) -> R, &C) -> i32` (see the header), which differs from this type in
        // a parameter that is a function pointer of the same ABI.
        let runner = unsafe { transmute::<usize, Runner<fn(), C>>(runner) };
        Ok(Resolved { runner, function })
    }

    /// Whether this process has the function.
    pub(crate) fn check(&self) -> Result<(), ResolveError> {
        resolve(&self.runner)?;
        resolve(&self.function).map(|_| ())
    }

    /// The same call with the function moved by so many bytes: what a mangled record may hold.
    #[cfg(test)]
    pub(crate) fn mangled(mut self, by: u64) -> Self {
        self.function.offset = self.function.offset.wrapping_add(by);
        self
    }
}

/// A call whose functions were found in this process.
#[derive(Debug)]
pub(crate) struct Resolved<C> {
    runner: Runner<fn(), C>,
    function: fn(),
}

impl<C> Resolved<C> {
    /// Calls the runner with the function and `context`.
    pub(crate) fn run(&self, context: &C) -> i32 {
        (self.runner)(self.function, context)
    }
}

fn seal<C: 'static>(runner: &Location, function: &Location) -> u64 {
    let mut hasher = DefaultHasher::new();
    (runner, function, std::any::type_name::<C>()).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(x: i32) -> i32 {
        2 * x
    }

    fn runner<R: Into<i64>>(function: fn(i32) -> R, context: &i32) -> i32 {
        function(*context).into() as i32
    }

    #[test]
    fn calls_what_was_named() {
        let call = Call::name(runner::<i32>, double as fn(i32) -> i32).expect("in this program");
        assert_eq!(call.run(&21), Ok(42));
        let closure = Call::name(runner::<i8>, (|x| (x + 1) as i8) as fn(i32) -> i8)
            .expect("in this program");
        assert_eq!(closure.run(&5), Ok(6));
    }

    #[test]
    fn refuses_what_was_mangled() {
        let call = Call::name(runner::<i32>, double as fn(i32) -> i32).expect("in this program");
        assert_eq!(call.mangled(1).run(&21), Err(ResolveError::OutOfRange));
        assert_eq!(
            call.mangled(u64::MAX / 2).run(&21),
            Err(ResolveError::OutOfRange)
        );
        assert_eq!(
            call.run(&21u64),
            Err(ResolveError::OutOfRange),
            "another context"
        );
    }
}
