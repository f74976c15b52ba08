//! States that most programs need: dict, list, namespace, queue, counter.
//!
//! Each is a proxy of an ordinary Rust type with that type's methods. It derefs to the [`Proxy`](super::Proxy), so whatever has no method here is one function away.

mod counter;
mod dict;
mod list;
mod namespace;
mod queue;

pub use counter::CounterProxy;
pub use dict::DictProxy;
pub use list::ListProxy;
pub use namespace::NamespaceProxy;
pub use queue::QueueProxy;

/// `Clone`, `Debug`, serde, and the ways from and to the proxy of the state.
macro_rules! ready {
    ($name:ident $(<$($param:ident),+>)?, $state:ty) => {
        impl $(<$($param),+>)? Clone for $name $(<$($param),+>)? {
            /// One more proxy of the same state.
            fn clone(&self) -> Self {
                Self(self.0.clone())
            }
        }

        impl $(<$($param),+>)? std::fmt::Debug for $name $(<$($param),+>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.0).finish()
            }
        }

        impl $(<$($param),+>)? From<crate::manager::Proxy<$state>> for $name $(<$($param),+>)? {
            /// The same state, with the methods of its kind.
            fn from(proxy: crate::manager::Proxy<$state>) -> Self {
                Self(proxy)
            }
        }

        impl $(<$($param),+>)? std::ops::Deref for $name $(<$($param),+>)? {
            type Target = crate::manager::Proxy<$state>;

            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }

        impl $(<$($param),+>)? serde::Serialize for $name $(<$($param),+>)? {
            /// As [`Proxy`](crate::Proxy).
            fn serialize<Z: serde::Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
                self.0.serialize(serializer)
            }
        }

        impl<'de $(, $($param),+)?> serde::Deserialize<'de> for $name $(<$($param),+>)? {
            fn deserialize<Z: serde::Deserializer<'de>>(deserializer: Z) -> Result<Self, Z::Error> {
                serde::Deserialize::deserialize(deserializer).map(Self)
            }
        }
    };
}

use ready;
