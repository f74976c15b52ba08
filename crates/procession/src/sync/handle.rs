//! What every public handle has in common: name, clone, debug, serde.

/// `Clone`, `Debug`, `handle`, `open` and serde for a struct whose field `shared` is a `Shared<$layout>` and whose other field is `_item`.
macro_rules! shared_handle {
    ($name:ident $(<$($param:ident),+>)?, $layout:ty, $label:literal) => {
        impl $(<$($param),+>)? $name $(<$($param),+>)? {
            /// The name of this object, to be sent by other means than a message. A name alone holds nothing.
            #[must_use]
            pub fn handle(&self) -> crate::heap::Handle {
                self.shared.handle()
            }

            /// Opens the object by its name, if somebody still holds it.
            ///
            /// # Errors
            /// [`HeapError::Stale`](crate::HeapError::Stale), [`HeapError::OtherFamily`](crate::HeapError::OtherFamily),
            /// [`HeapError::WrongKind`](crate::HeapError::WrongKind).
            pub fn open(handle: crate::heap::Handle) -> Result<Self, crate::heap::HeapError> {
                Ok(Self { shared: crate::heap::Shared::<$layout>::open(handle)?, _item: Default::default() })
            }

            fn hold(&self) -> crate::heap::Hold {
                self.shared.hold()
            }
        }

        impl $(<$($param),+>)? Clone for $name $(<$($param),+>)? {
            /// One more handle to the same object.
            fn clone(&self) -> Self {
                Self { shared: self.shared.clone(), _item: Default::default() }
            }
        }

        crate::sync::handle_serde!($name $(<$($param),+>)?, $label);
    };
}

/// `Debug` and serde for a handle type with `handle`, `open` and `hold`.
macro_rules! handle_serde {
    ($name:ident $(<$($param:ident),+>)?, $label:literal) => {
        impl $(<$($param),+>)? std::fmt::Debug for $name $(<$($param),+>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct($label).field("handle", &self.handle()).finish_non_exhaustive()
            }
        }

        impl $(<$($param),+>)? serde::Serialize for $name $(<$($param),+>)? {
            /// Inside a message only: there the message holds the object while it is on its way.
            fn serialize<Z: serde::Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
                if !crate::channel::pack_hold(|| self.hold()) {
                    return Err(serde::ser::Error::custom(concat!(
                        "a ", $label, " can only be serialised inside a message of procession \
                         (a queue, a pipe, a process argument); for other means send its `handle()`"
                    )));
                }
                serde::Serialize::serialize(&self.handle().to_bytes(), serializer)
            }
        }

        impl<'de $(, $($param),+)?> serde::Deserialize<'de> for $name $(<$($param),+>)? {
            fn deserialize<Z: serde::Deserializer<'de>>(deserializer: Z) -> Result<Self, Z::Error> {
                let bytes = <[u8; 16] as serde::Deserialize>::deserialize(deserializer)?;
                Self::open(crate::heap::Handle::from_bytes(bytes))
                    .map_err(|error| serde::de::Error::custom(crate::channel::explain(error)))
            }
        }
    };
}

pub(crate) use {handle_serde, shared_handle};
