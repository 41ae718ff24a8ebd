//! From a tree to typed structs: a serde reader whose faults name the key and where it was written.

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, Unexpected, VariantAccess,
    Visitor,
};

use super::fault::Fault;
use super::yaml::{Entry, Kind, Node};

/// Reads a tree into a typed value.
pub(crate) fn read<T: de::DeserializeOwned>(node: &Node) -> Result<T, Fault> {
    T::deserialize(node)
}

/// Reads a number as it was written.
macro_rules! numbers {
    ($($method:ident => $visit:ident: $number:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let Kind::Text(text) = &self.kind else { return Err(self.mismatch(&visitor)) };
            match text.parse::<$number>() {
                Ok(number) => visitor.$visit(number).map_err(|fault: Fault| fault.or_at(&self.origin)),
                Err(error) => Err(Fault::new(format!("not a number that fits here: {error}")).or_at(&self.origin)),
            }
        }
    )*};
}

impl Node {
    fn unexpected(&self) -> Unexpected<'_> {
        match &self.kind {
            Kind::Null => Unexpected::Other("nothing"),
            Kind::Text(_) => Unexpected::Other("text"),
            Kind::List(_) => Unexpected::Other("a list"),
            Kind::Map(_) => Unexpected::Other("a map"),
        }
    }

    fn mismatch(&self, expected: &dyn de::Expected) -> Fault {
        <Fault as de::Error>::invalid_type(self.unexpected(), expected).or_at(&self.origin)
    }
}

impl<'de> Deserializer<'de> for &Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Text(text) => visitor.visit_str(text),
            Kind::List(items) => visitor.visit_seq(Items { items: items.iter(), index: 0 }),
            Kind::Map(entries) => visitor.visit_map(Entries { entries: entries.iter().collect(), next: 0 }),
        }
        .map_err(|fault: Fault| fault.or_at(&self.origin))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.kind {
            Kind::Null => visitor.visit_none(),
            Kind::Text(_) | Kind::List(_) | Kind::Map(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.kind {
            Kind::Text(text) if text.eq_ignore_ascii_case("true") => visitor.visit_bool(true),
            Kind::Text(text) if text.eq_ignore_ascii_case("false") => visitor.visit_bool(false),
            Kind::Text(_) => Err(Fault::new("neither `true` nor `false`").or_at(&self.origin)),
            Kind::Null | Kind::List(_) | Kind::Map(_) => Err(self.mismatch(&visitor)),
        }
    }

    numbers! {
        deserialize_i8 => visit_i8: i8, deserialize_i16 => visit_i16: i16, deserialize_i32 => visit_i32: i32,
        deserialize_i64 => visit_i64: i64, deserialize_u8 => visit_u8: u8, deserialize_u16 => visit_u16: u16,
        deserialize_u32 => visit_u32: u32, deserialize_u64 => visit_u64: u64, deserialize_f32 => visit_f32: f32,
        deserialize_f64 => visit_f64: f64
    }

    /// A struct knows its keys, so a null value counts as a key left out; only its name is still looked at.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let mut set = Vec::new();
        match &self.kind {
            Kind::Null => {}
            Kind::Map(entries) => {
                for entry in entries {
                    if matches!(entry.value.kind, Kind::Null) && fields.contains(&entry.key.as_str()) {
                        continue;
                    }
                    set.push(entry);
                }
            }
            Kind::Text(_) | Kind::List(_) => return Err(self.mismatch(&"a section with keys")),
        }
        visitor.visit_map(Entries { entries: set, next: 0 }).map_err(|fault| fault.in_value(&self.origin))
    }

    /// Text names a variant. A map is one of several kinds of map, and its `profile` says which.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.kind {
            Kind::Text(text) => visitor.visit_enum(Variant { name: text, content: self }),
            Kind::Map(entries) => {
                let Some(tag) = entries.iter().find(|entry| entry.key == TAG) else {
                    return Err(untagged(entries, variants));
                };
                let Kind::Text(name) = &tag.value.kind else {
                    return Err(tag.value.mismatch(&"the name of a profile").within(TAG));
                };
                if !variants.contains(&name.as_str()) {
                    let fault = <Fault as de::Error>::unknown_variant(name, variants);
                    return Err(fault.or_at(&tag.value.origin).within(TAG));
                }
                let rest = entries.iter().filter(|entry| entry.key != TAG).cloned().collect();
                let content = Node { origin: self.origin.clone(), kind: Kind::Map(rest) };
                visitor.visit_enum(Variant { name, content: &content })
            }
            Kind::Null | Kind::List(_) => Err(self.mismatch(&visitor)),
        }
        .map_err(|fault: Fault| fault.in_value(&self.origin))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier
    }
}

/// The key that says which kind of map a map is.
const TAG: &str = "profile";

/// The fault of a map without its tag: a misspelled one is named, else the tag is missing.
fn untagged(entries: &[Entry], variants: &'static [&'static str]) -> Fault {
    match entries.iter().find(|entry| strsim::osa_distance(&entry.key, TAG) <= 2) {
        Some(entry) => <Fault as de::Error>::unknown_field(&entry.key, &[TAG]).or_at(&entry.origin),
        None => <Fault as de::Error>::missing_field(TAG).hint(format!("one of: {}", variants.join(", "))),
    }
}

struct Items<'a> {
    items: std::slice::Iter<'a, Node>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(item).map(Some).map_err(|fault| fault.or_at(&item.origin).within(&index.to_string()))
    }
}

struct Entries<'a> {
    entries: Vec<&'a Entry>,
    /// Index of the entry whose key comes next.
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some(entry) = self.entries.get(self.next) else { return Ok(None) };
        self.next += 1;
        let key = IntoDeserializer::<Fault>::into_deserializer(entry.key.as_str());
        seed.deserialize(key).map(Some).map_err(|fault| fault.or_at(&entry.origin))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some(entry) = self.next.checked_sub(1).and_then(|index| self.entries.get(index)) else {
            return Err(Fault::new("a value was asked for before its key"));
        };
        seed.deserialize(&entry.value)
            .map_err(|fault| fault.in_value(&entry.value.origin).or_at(&entry.origin).within(&entry.key))
    }
}

struct Variant<'a> {
    name: &'a str,
    content: &'a Node,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Fault;
    type Variant = Content<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Content<'a>), Fault> {
        let name = seed.deserialize(IntoDeserializer::<Fault>::into_deserializer(self.name))?;
        Ok((name, Content(self.content)))
    }
}

struct Content<'a>(&'a Node);

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match &self.0.kind {
            Kind::Text(_) => Ok(()),
            Kind::Null | Kind::List(_) | Kind::Map(_) => Err(self.0.mismatch(&"text")),
        }
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self.0)
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.0.deserialize_any(visitor)
    }
    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        self.0.deserialize_struct("", fields, visitor)
    }
}
