//! JSON objects as structs, at a quarter of the size that serde's derive makes of one: what is absent
//! has its default, what is not known is passed over, of two values with one name the last counts.

use std::marker::PhantomData;

/// Reads the fields of a `T`.
pub struct Fields<T>(PhantomData<T>);

impl<T> Default for Fields<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// Declares a struct and how it is read; behind each field is its name in the JSON.
macro_rules! object {
    ($(#[$about:meta])* pub struct $name:ident $(<$life:lifetime>)? {
        $($(#[$field_about:meta])* pub $field:ident: $kind:ty = $key:literal,)*
    }) => {
        $(#[$about])*
        #[derive(Debug, Default)]
        pub struct $name $(<$life>)? {
            $($(#[$field_about])* pub $field: $kind,)*
        }

        impl<'de $(: $life, $life)?> serde::Deserialize<'de> for $name $(<$life>)? {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_map($crate::bundle::object::Fields::<Self>::default())
            }
        }

        impl<'de $(: $life, $life)?> serde::de::Visitor<'de>
            for $crate::bundle::object::Fields<$name $(<$life>)?>
        {
            type Value = $name $(<$life>)?;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut read = Self::Value::default();
                while let Some(key) = map.next_key::<$crate::bundle::text::Text<'de>>()? {
                    match &*key {
                        $($key => read.$field = map.next_value()?,)*
                        _ => {
                            map.next_value::<serde::de::IgnoredAny>()?;
                        }
                    }
                }
                Ok(read)
            }
        }
    };
}

pub(crate) use object;
