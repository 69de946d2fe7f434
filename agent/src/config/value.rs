//! Checks one value against one key: its type and range. Messages never repeat the value, which may be a misplaced
//! secret; numbers out of range are the exception.

use super::{
    keys::{KeySchema, SectionSchema, ValueSchema, joined},
    units::{HumanDuration, HumanSize},
};
use crate::spelling::nearest;
use config::{Map, Value, ValueKind};

/// A value as written, before it is checked.
pub(super) enum WrittenValue {
    /// A string; durations and sizes are not parsed yet.
    Text(String),
    /// A whole number; its range is not checked yet.
    Integer(i64),
    /// A boolean, `true` or `false`.
    Flag(bool),
    /// An array of strings.
    List(Vec<Self>),
    /// A table in an array.
    Table(Vec<(String, Self)>),
    /// A type that no key accepts, for messages: `a date`, `a section`.
    Other(&'static str),
}

impl WrittenValue {
    fn name(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "a number",
            Self::Flag(_) => "true or false",
            Self::List(_) => "an array",
            Self::Table(_) => "a section",
            Self::Other(name) => name,
        }
    }
}

impl KeySchema {
    /// The checked value, or a message with the problem and the expected form.
    pub(super) fn parse_value(&self, written: WrittenValue) -> Result<ValueKind, String> {
        let range = |inside: bool, shown: String, checked: ValueKind| match inside {
            true => Ok(checked),
            false => Err(format!(
                "{shown} is out of range; expected {}",
                self.kind.description()
            )),
        };
        match (&self.kind, written) {
            (ValueSchema::Text, WrittenValue::Text(text)) => Ok(text.into()),
            (ValueSchema::Choice(words), WrittenValue::Text(text)) => match words.contains(&text) {
                true => Ok(text.into()),
                false => {
                    let hint = nearest(&text, words.iter().map(String::as_str))
                        .map(|word| format!("; did you mean {word:?}?"))
                        .unwrap_or_default();
                    Err(format!(
                        "not a known value; expected {}{hint}",
                        self.kind.description()
                    ))
                }
            },
            (ValueSchema::Integer(min, max), WrittenValue::Integer(number)) => range(
                (*min..=*max).contains(&number),
                number.to_string(),
                number.into(),
            ),
            (ValueSchema::Duration(min, max), WrittenValue::Text(text)) => {
                let span: HumanDuration = text.parse().map_err(|error| format!("{error}"))?;
                range((min..=max).contains(&&span), span.to_string(), text.into())
            }
            (ValueSchema::Size(min, max), WrittenValue::Text(text)) => {
                let size: HumanSize = text.parse().map_err(|error| format!("{error}"))?;
                range((min..=max).contains(&&size), size.to_string(), text.into())
            }
            (ValueSchema::Size(min, max), WrittenValue::Integer(number)) => {
                let inside =
                    u64::try_from(number).is_ok_and(|n| (min..=max).contains(&&HumanSize(n)));
                range(inside, number.to_string(), number.to_string().into())
            }
            (ValueSchema::Flag, WrittenValue::Flag(flag)) => Ok(flag.into()),
            (ValueSchema::List, WrittenValue::List(items)) => {
                let mut texts = Vec::with_capacity(items.len());
                for (index, item) in items.into_iter().enumerate() {
                    match item {
                        WrittenValue::Text(text) => texts.push(text),
                        other @ (WrittenValue::Integer(_)
                        | WrittenValue::Flag(_)
                        | WrittenValue::List(_)
                        | WrittenValue::Table(_)
                        | WrittenValue::Other(_)) => {
                            return Err(format!(
                                "element {index} is {}; expected {}",
                                other.name(),
                                self.kind.description()
                            ));
                        }
                    }
                }
                Ok(texts.into())
            }
            (ValueSchema::Tables(members), WrittenValue::List(items)) => {
                let tables = items.into_iter().enumerate();
                let tables = tables.map(|(index, item)| {
                    table(members, item).map_err(|why| format!("element {index} {why}"))
                });
                Ok(ValueKind::Array(tables.collect::<Result<_, _>>()?))
            }
            (kind, other) => Err(format!(
                "expected {}, found {}",
                kind.description(),
                other.name()
            )),
        }
    }

    /// The text of a variable as the type of value that this key takes.
    pub(super) fn read_variable(&self, text: &str) -> WrittenValue {
        match &self.kind {
            ValueSchema::Integer(..) => match text.trim().parse() {
                Ok(number) => WrittenValue::Integer(number),
                Err(_) => WrittenValue::Text(text.to_owned()),
            },
            ValueSchema::Flag => match text.trim() {
                "true" => WrittenValue::Flag(true),
                "false" => WrittenValue::Flag(false),
                _ => WrittenValue::Text(text.to_owned()),
            },
            // Rules contain commas, so several need TOML's array syntax.
            ValueSchema::List => match toml::from_str::<StringArray>(&format!("array = {text}")) {
                Ok(several) => {
                    WrittenValue::List(several.array.into_iter().map(WrittenValue::Text).collect())
                }
                Err(_) => WrittenValue::List(vec![WrittenValue::Text(text.to_owned())]),
            },
            ValueSchema::Tables(_) => {
                match toml::from_str::<TableArray>(&format!("array = {text}")) {
                    Ok(several) => WrittenValue::List(
                        several
                            .array
                            .into_iter()
                            .map(|table| {
                                let members = table.into_iter();
                                WrittenValue::Table(
                                    members
                                        .map(|(name, value)| (name, WrittenValue::Text(value)))
                                        .collect(),
                                )
                            })
                            .collect(),
                    ),
                    Err(_) => WrittenValue::Text(text.to_owned()),
                }
            }
            ValueSchema::Text
            | ValueSchema::Choice(_)
            | ValueSchema::Duration(..)
            | ValueSchema::Size(..) => WrittenValue::Text(text.to_owned()),
        }
    }
}

impl ValueSchema {
    /// Description of the accepted values, for messages.
    pub(super) fn description(&self) -> String {
        match self {
            Self::Text => "a string in quotes".to_owned(),
            Self::Choice(words) => {
                let words: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
                match words.split_last() {
                    Some((last, [])) => last.clone(),
                    Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
                    None => String::new(),
                }
            }
            Self::Integer(min, max) => format!("a whole number from {min} to {max}"),
            Self::Duration(min, max) => format!("a duration from {min} to {max}, like \"30s\""),
            Self::Size(min, max) => {
                format!("a number of bytes from {min} to {max}, also like \"1MiB\"")
            }
            Self::Flag => "true or false".to_owned(),
            Self::List => "an array of strings, like [\"one\", \"two\"]".to_owned(),
            Self::Tables(members) => {
                let members: Vec<_> = members.iter().map(|m| format!("{m} = \"…\"")).collect();
                format!("an array of tables, like [{{ {} }}]", members.join(", "))
            }
        }
    }
}

impl SectionSchema {
    /// Message for a name that is not in this section. `path` is the path of the section.
    pub(super) fn unknown_key(&self, name: &str, path: &str, top: &Self) -> String {
        let here = || {
            let keys = self.keys.iter().map(|key| key.name.as_str());
            keys.chain(self.sections.iter().map(|section| section.name.as_str()))
        };
        if let Some(near) = nearest(name, here()) {
            return format!("unknown key; did you mean {near:?}?");
        }
        if let Some(header) = top.header_of_section_with(name, "") {
            return format!("unknown key here; it belongs to {header}");
        }
        let all: Vec<_> = here().collect();
        let where_known = match path {
            "" => "at the top of the file".to_owned(),
            path => format!("in {}", self.header(path)),
        };
        format!("unknown key; known {where_known}: {}", all.join(", "))
    }
}

impl SectionSchema {
    /// Header line of the section at this path: `[path]` or `[[path]]`.
    pub(super) fn header(&self, path: &str) -> String {
        match self.repeated {
            true => format!("[[{path}]]"),
            false => format!("[{path}]"),
        }
    }

    /// The header of the first section, including inner ones, with a key of this name.
    fn header_of_section_with(&self, key: &str, path: &str) -> Option<String> {
        self.sections.iter().find_map(|inner| {
            let path = joined(path, &inner.name);
            match inner.key(key) {
                Some(_) => Some(inner.header(&path)),
                None => inner.header_of_section_with(key, &path),
            }
        })
    }
}

/// One table of an array; it never repeats a value, which may be a misplaced secret.
fn table(members: &[&str], item: WrittenValue) -> Result<Value, String> {
    let WrittenValue::Table(written) = item else {
        return Err(format!("is {}, not a table", item.name()));
    };
    let mut found = Map::new();
    for (name, value) in written {
        if !members.contains(&name.as_str()) {
            let hint = nearest(&name, members.iter().copied())
                .map(|near| format!("; did you mean {near:?}?"))
                .unwrap_or_default();
            return Err(format!(
                "has an unknown member{hint} Known: {}",
                members.join(", ")
            ));
        }
        let WrittenValue::Text(text) = value else {
            return Err(format!("has {} for {name}, not a string", value.name()));
        };
        found.insert(name, Value::new(None, ValueKind::String(text)));
    }
    match members.iter().find(|member| !found.contains_key(**member)) {
        Some(lacking) => Err(format!("lacks {lacking}")),
        None => Ok(Value::new(None, ValueKind::Table(found))),
    }
}

#[derive(serde::Deserialize)]
struct TableArray {
    array: Vec<std::collections::BTreeMap<String, String>>,
}

#[derive(serde::Deserialize)]
struct StringArray {
    array: Vec<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_nearest_known_word_is_found_and_a_stranger_is_not() {
        let known = ["gateways", "user", "identity_file", "password_file"];
        for (written, near) in [
            ("gateway", Some("gateways")),
            ("identity-file", Some("identity_file")),
            ("usre", Some("user")),
            ("password", Some("password_file")),
            ("colour", None),
        ] {
            assert_eq!(nearest(written, known.into_iter()), near, "{written}");
        }
    }
}
