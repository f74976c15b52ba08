//! Functions that tasks call: pointers, to be named in another process.

use crate::process::Portable;

mod sealed {
    use crate::sys::call::FunctionPointer;

    /// Nobody else's types are pointers to functions.
    #[expect(
        private_bounds,
        reason = "sealed: how a function is named is the engine's matter"
    )]
    pub trait Sealed: FunctionPointer {}
}

/// A pointer to a function that tasks can call: of one argument, or of two to six, which then come as a tuple.
///
/// A closure that captures nothing becomes one by itself where one argument is expected; for several the compiler must be told: `power as fn(u64, u32) -> u64`.
pub trait TaskFunction: sealed::Sealed + Copy + Send + 'static {
    /// The argument, or the arguments as a tuple.
    type Arguments: Portable;
    /// What it returns.
    type Output: Portable;

    #[doc(hidden)]
    fn call(self, arguments: Self::Arguments) -> Self::Output;
}

impl<A, R> sealed::Sealed for fn(A) -> R {}

impl<A: Portable, R: Portable> TaskFunction for fn(A) -> R {
    type Arguments = A;
    type Output = R;

    fn call(self, argument: A) -> R {
        self(argument)
    }
}

macro_rules! star {
    ($($name:ident $argument:ident),+) => {
        impl<$($name,)+ R> sealed::Sealed for fn($($name),+) -> R {}

        impl<$($name: Portable,)+ R: Portable> TaskFunction for fn($($name),+) -> R {
            type Arguments = ($($name,)+);
            type Output = R;

            fn call(self, ($($argument,)+): Self::Arguments) -> R {
                self($($argument),+)
            }
        }
    };
}

star!(A a, B b);
star!(A a, B b, C c);
star!(A a, B b, C c, D d);
star!(A a, B b, C c, D d, E e);
star!(A a, B b, C c, D d, E e, F f);
