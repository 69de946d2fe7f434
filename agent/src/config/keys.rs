//! The list of keys, taken from the raw types, with ranges and defaults. Every check, the reference and `config show`
//! use this one list.

use super::{
    raw,
    units::{DURATION, HumanDuration, HumanSize, SIZE},
};
use schemars::{Schema, generate::SchemaSettings};
use serde::{
    Deserialize,
    de::{self, Visitor},
    forward_to_deserialize_any,
};
use serde_json::Value;
use std::sync::OnceLock;

/// A section with its keys and inner sections.
#[derive(Debug)]
pub struct SectionSchema {
    /// Last part of its path; empty for the top of the file.
    pub name: String,
    /// Description for the reference.
    pub doc: String,
    /// Written `[[name]]`, and may occur any number of times.
    pub repeated: bool,
    /// Its keys, in the order of the reference.
    pub keys: Vec<KeySchema>,
    /// Inner sections, in the order of the reference.
    pub sections: Vec<SectionSchema>,
}

/// One configuration key and what may be written for it.
#[derive(Debug)]
pub struct KeySchema {
    /// The key as written in the file.
    pub name: String,
    /// Description for the reference.
    pub doc: String,
    /// Type and range of the value.
    pub kind: ValueSchema,
    /// Value used if the key is not set.
    pub default: Option<Value>,
    /// The key must be set.
    pub required: bool,
}

/// Type and range of a key's value.
#[derive(Debug)]
pub enum ValueSchema {
    /// A string without further restriction.
    Text,
    /// A string out of these.
    Choice(Vec<String>),
    /// A whole number in this range.
    Integer(i64, i64),
    /// A duration in this range.
    Duration(HumanDuration, HumanDuration),
    /// A size in this range.
    Size(HumanSize, HumanSize),
    /// A boolean, `true` or `false`.
    Flag,
    /// An array of strings.
    List,
}

/// The schema of the whole file, built once.
pub fn root() -> &'static SectionSchema {
    static ROOT: OnceLock<SectionSchema> = OnceLock::new();
    ROOT.get_or_init(|| {
        let mut settings = SchemaSettings::draft2020_12();
        settings.inline_subschemas = true;
        let schema = settings
            .into_generator()
            .into_root_schema_for::<raw::RawConfig>();
        section("", schema.as_value(), false)
    })
}

impl SectionSchema {
    /// The key of this name, if there is one.
    pub fn key(&self, name: &str) -> Option<&KeySchema> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The inner section of this name, if there is one.
    pub fn section(&self, name: &str) -> Option<&SectionSchema> {
        self.sections.iter().find(|section| section.name == name)
    }
}

/// The path of a name in a section. The path of the top of the file is empty.
pub fn joined(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

/// Records the order in which the fields of `T` are declared, which a JSON object does not keep.
pub fn in_order<'de, T: Deserialize<'de>>(schema: &mut Schema) {
    let mut fields = Vec::new();
    // Always fails: only the field names are needed.
    let _ = T::deserialize(FieldNames(&mut fields));
    schema.insert(ORDER.to_owned(), fields.into());
}

fn section(name: &str, schema: &Value, repeated: bool) -> SectionSchema {
    let mut found = SectionSchema {
        name: name.to_owned(),
        doc: text(schema, "description"),
        repeated,
        keys: Vec::new(),
        sections: Vec::new(),
    };
    let required = strings(schema.get("required"));
    for field in strings(schema.get(ORDER)) {
        let Some(property) = schema.get("properties").and_then(|all| all.get(&field)) else {
            continue;
        };
        let doc = text(property, "description");
        let shape = without_null(property);
        let items = shape.get("items").filter(|items| is_object(items));
        if let Some(inner) = items.or_else(|| is_object(shape).then_some(shape)) {
            let inner = section(&field, inner, items.is_some());
            found.sections.push(SectionSchema { doc, ..inner });
        } else {
            found.keys.push(KeySchema {
                doc,
                kind: kind(property, shape),
                default: property.get("default").filter(|v| !v.is_null()).cloned(),
                required: required.contains(&field),
                name: field,
            });
        }
    }
    found
}

fn kind(property: &Value, shape: &Value) -> ValueSchema {
    let bound = |name: &str| text(property, name);
    let choices = choices(shape);
    match shape.get("format").and_then(Value::as_str) {
        Some(DURATION) => ValueSchema::Duration(
            bound("x-min")
                .parse()
                .unwrap_or(HumanDuration(std::time::Duration::ZERO)),
            bound("x-max")
                .parse()
                .unwrap_or(HumanDuration(std::time::Duration::MAX)),
        ),
        Some(SIZE) => ValueSchema::Size(
            bound("x-min").parse().unwrap_or(HumanSize(0)),
            bound("x-max").parse().unwrap_or(HumanSize(u64::MAX)),
        ),
        _ if !choices.is_empty() => ValueSchema::Choice(choices),
        _ if has_type(shape, "integer") => ValueSchema::Integer(
            property.get("minimum").and_then(Value::as_i64).unwrap_or(0),
            property
                .get("maximum")
                .and_then(Value::as_i64)
                .unwrap_or(i64::MAX),
        ),
        _ if has_type(shape, "boolean") => ValueSchema::Flag,
        _ if has_type(shape, "array") => ValueSchema::List,
        _ => ValueSchema::Text,
    }
}

/// `Option<T>` of a type with a schema of its own is `anyOf [T, null]`.
fn without_null(property: &Value) -> &Value {
    property
        .get("anyOf")
        .and_then(Value::as_array)
        .and_then(|options| options.iter().find(|option| !has_type(option, "null")))
        .unwrap_or(property)
}

/// Variants are an `enum`, or a `oneOf` of constants if some have a doc comment.
fn choices(shape: &Value) -> Vec<String> {
    let plain = strings(shape.get("enum"));
    if !plain.is_empty() {
        return plain;
    }
    let one_of = shape.get("oneOf").and_then(Value::as_array);
    one_of
        .into_iter()
        .flatten()
        .map(|option| text(option, "const"))
        .collect()
}

fn is_object(schema: &Value) -> bool {
    schema.get("properties").is_some_and(Value::is_object)
}

fn has_type(schema: &Value, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(only)) => only == name,
        Some(Value::Array(several)) => several.iter().any(|one| one == name),
        _ => false,
    }
}

fn text(schema: &Value, key: &str) -> String {
    let text = schema.get(key).and_then(Value::as_str).unwrap_or_default();
    // Line breaks in doc comments have no meaning.
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let all = value.and_then(Value::as_array);
    all.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// A deserializer that only records the fields that a struct requests.
struct FieldNames<'a>(&'a mut Vec<&'static str>);

impl<'de> de::Deserializer<'de> for FieldNames<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("no struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.extend(fields);
        Err(de::Error::custom("fields noted"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Extension key of the schema: field names in the order of declaration.
const ORDER: &str = "x-order";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn each<'a>(
        section: &'a SectionSchema,
        visit: &mut impl FnMut(&'a SectionSchema, &'a KeySchema),
    ) {
        section.keys.iter().for_each(|key| visit(section, key));
        for inner in &section.sections {
            each(inner, visit);
        }
    }

    #[test]
    fn the_keys_of_the_contract_are_there_in_the_order_of_declaration() {
        let tunnel = root().section("tunnel").unwrap();
        let names: Vec<_> = tunnel.keys.iter().map(|key| key.name.as_str()).collect();
        assert_eq!(names[..3], ["gateways", "user", "identity_file"]);
        assert!(tunnel.key("user").unwrap().required);
        assert!(!tunnel.key("connections").unwrap().required);
        assert!(root().section("forward").unwrap().repeated);
        let mode = root().section("forward").unwrap().section("auth").unwrap();
        let ValueSchema::Choice(modes) = &mode.key("mode").unwrap().kind else {
            panic!("mode is no choice");
        };
        assert_eq!(
            modes[..],
            [
                "pass-through",
                "basic",
                "pat",
                "oauth2",
                "api-token",
                "oauth1"
            ]
        );
    }

    #[test]
    fn every_key_has_a_description_and_every_bound_a_range_that_holds_its_default() {
        each(root(), &mut |section, key| {
            let label = format!("{}.{}", section.name, key.name);
            assert!(!key.doc.is_empty(), "{label}");
            let default = key.default.as_ref();
            match &key.kind {
                ValueSchema::Duration(min, max) => {
                    let default: HumanDuration =
                        default.unwrap().as_str().unwrap().parse().unwrap();
                    assert!(max.0 < std::time::Duration::MAX, "{label}");
                    assert!((min..=max).contains(&&default), "{label}");
                }
                ValueSchema::Size(min, max) => {
                    let default: HumanSize = default.unwrap().as_str().unwrap().parse().unwrap();
                    assert!(max.0 < u64::MAX, "{label}");
                    assert!((min..=max).contains(&&default), "{label}");
                }
                ValueSchema::Integer(min, max) => {
                    let default = default.unwrap().as_i64().unwrap();
                    assert!(*max < i64::from(u32::MAX), "{label}");
                    assert!((min..=max).contains(&&default), "{label}");
                }
                _ => {}
            }
        });
    }
}
