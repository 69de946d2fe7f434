//! The list of keys with types, ranges and defaults, and the macros by which `raw` declares them. Every check, the
//! reference and `config show` use this one list.

use super::{
    raw,
    units::{HumanDuration, HumanSize},
};
use serde::Serialize;
use serde_json::Value;
use std::{path::PathBuf, sync::OnceLock};

/// A section with its keys and inner sections.
#[derive(Debug)]
pub(super) struct SectionSchema {
    /// Last part of its path; empty for the top of the file.
    pub name: String,
    /// Description for the reference.
    pub doc: String,
    /// Written `[[name]]`, and may occur any number of times.
    pub repeated: bool,
    /// Its keys, in the order of the reference.
    pub keys: Vec<KeySchema>,
    /// Inner sections, in the order of the reference.
    pub sections: Vec<Self>,
}

/// One configuration key and what may be written for it.
#[derive(Debug)]
pub(super) struct KeySchema {
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
pub(super) enum ValueSchema {
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
    /// An array of tables with these members, all of them strings and required.
    Tables(&'static [&'static str]),
}

/// The schema of the whole file, built once.
pub(super) fn root() -> &'static SectionSchema {
    static ROOT: OnceLock<SectionSchema> = OnceLock::new();
    ROOT.get_or_init(|| raw::RawConfig::schema("", ""))
}

impl SectionSchema {
    /// The key of this name, if there is one.
    pub(super) fn key(&self, name: &str) -> Option<&KeySchema> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The inner section of this name, if there is one.
    pub(super) fn section(&self, name: &str) -> Option<&Self> {
        self.sections.iter().find(|section| section.name == name)
    }
}

/// The path of a name in a section. The path of the top of the file is empty.
pub(super) fn joined(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

/// A section, declared by [`sections`].
pub(super) trait Section {
    /// Its keys and inner sections.
    fn schema(name: &str, doc: &str) -> SectionSchema;
}

impl<S: Section> Section for Vec<S> {
    fn schema(name: &str, doc: &str) -> SectionSchema {
        SectionSchema {
            repeated: true,
            ..S::schema(name, doc)
        }
    }
}

/// A type that the value of a key may have.
pub(super) trait KeyType: Serialize {
    /// Whether the key needs neither a value nor a default.
    const IS_OPTIONAL: bool = false;
    /// What may be written. Types without a range ignore the bounds.
    fn value_schema(min: &str, max: &str) -> ValueSchema;
}

impl<T: KeyType> KeyType for Option<T> {
    const IS_OPTIONAL: bool = true;
    fn value_schema(min: &str, max: &str) -> ValueSchema {
        T::value_schema(min, max)
    }
}

impl KeyType for String {
    fn value_schema(_: &str, _: &str) -> ValueSchema {
        ValueSchema::Text
    }
}

impl KeyType for PathBuf {
    fn value_schema(_: &str, _: &str) -> ValueSchema {
        ValueSchema::Text
    }
}

impl KeyType for bool {
    fn value_schema(_: &str, _: &str) -> ValueSchema {
        ValueSchema::Flag
    }
}

impl KeyType for Vec<String> {
    fn value_schema(_: &str, _: &str) -> ValueSchema {
        ValueSchema::List
    }
}

impl KeyType for Vec<raw::RawHeaderField> {
    fn value_schema(_: &str, _: &str) -> ValueSchema {
        ValueSchema::Tables(&["name", "value_file"])
    }
}

impl KeyType for u32 {
    fn value_schema(min: &str, max: &str) -> ValueSchema {
        let (min, max) = (min.parse(), max.parse());
        ValueSchema::Integer(min.unwrap_or(0), max.unwrap_or(Self::MAX.into()))
    }
}

impl KeyType for HumanDuration {
    fn value_schema(min: &str, max: &str) -> ValueSchema {
        let (min, max) = (min.parse(), max.parse());
        ValueSchema::Duration(
            min.unwrap_or(Self(std::time::Duration::ZERO)),
            max.unwrap_or(Self(std::time::Duration::MAX)),
        )
    }
}

impl KeyType for HumanSize {
    fn value_schema(min: &str, max: &str) -> ValueSchema {
        let (min, max) = (min.parse(), max.parse());
        ValueSchema::Size(min.unwrap_or(Self(0)), max.unwrap_or(Self(u64::MAX)))
    }
}

impl KeySchema {
    /// A key of this type. `bounds` is its range, as in the declaration.
    pub(super) fn new<T: KeyType>(
        name: &str,
        doc: &str,
        bounds: (&str, &str),
        default: Option<T>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            doc: one_line(doc),
            kind: T::value_schema(bounds.0, bounds.1),
            required: default.is_none() && !T::IS_OPTIONAL,
            default: default
                .and_then(|default| serde_json::to_value(default).ok())
                .filter(|default| !default.is_null()),
        }
    }
}

/// Line breaks in doc comments have no meaning.
pub(super) fn one_line(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Declares sections. A key is written `name: Type = default, min..=max;`, a key without default is required unless it is
/// an `Option`. Generates the struct that a section is deserialized into, its [`Default`], and its [`Section::schema`].
macro_rules! sections {
    (@value) => { Default::default() };
    (@value $default:expr) => { $default };
    (@option) => { None };
    (@option $default:expr) => { Some($default) };
    (@bounds) => { ("", "") };
    (@bounds $min:literal $max:literal) => { (concat!($min), concat!($max)) };
    ($(
        $(#[doc = $section_doc:literal])*
        pub struct $Section:ident {
            $(
                $(#[doc = $doc:literal])*
                $key:ident: $Type:ty $(= $default:expr $(, $min:literal..=$max:literal)?)?;
            )*
            $(@sections $($(#[doc = $inner_doc:literal])* $inner:ident: $Inner:ty;)*)?
        }
    )*) => {$(
        $(#[doc = $section_doc])*
        #[derive(Clone, PartialEq, Eq, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(in crate::config) struct $Section {
            $($(#[doc = $doc])* pub $key: $Type,)*
            $($($(#[doc = $inner_doc])* pub $inner: $Inner,)*)?
        }

        impl Default for $Section {
            fn default() -> Self {
                Self {
                    $($key: sections!(@value $($default)?),)*
                    $($($inner: Default::default(),)*)?
                }
            }
        }

        impl $crate::config::keys::Section for $Section {
            fn schema(name: &str, doc: &str) -> $crate::config::keys::SectionSchema {
                $crate::config::keys::SectionSchema {
                    name: name.to_owned(),
                    doc: $crate::config::keys::one_line(doc),
                    repeated: false,
                    keys: vec![$($crate::config::keys::KeySchema::new::<$Type>(
                        stringify!($key),
                        concat!($($doc),*),
                        sections!(@bounds $($($min $max)?)?),
                        sections!(@option $($default)?),
                    )),*],
                    sections: vec![$($(
                        <$Inner as $crate::config::keys::Section>::schema(
                            stringify!($inner),
                            concat!($($inner_doc),*),
                        ),
                    )*)?],
                }
            }
        }
    )*};
}
pub(super) use sections;

/// Declares types of keys that accept one of several words. The first word is the default.
macro_rules! choices {
    ($(
        $(#[doc = $doc:literal])*
        pub enum $Name:ident { $First:ident = $first:tt, $($Variant:ident = $word:tt,)* }
    )*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Default, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
        pub(in crate::config) enum $Name {
            #[doc = concat!("Written `", $first, "`.")]
            #[default]
            #[serde(rename = $first)]
            $First,
            $(
                #[doc = concat!("Written `", $word, "`.")]
                #[serde(rename = $word)]
                $Variant,
            )*
        }

        impl $Name {
            /// The word as written in the file.
            pub(in crate::config) const fn word(self) -> &'static str {
                match self {
                    Self::$First => $first,
                    $(Self::$Variant => $word,)*
                }
            }
        }

        impl $crate::config::keys::KeyType for $Name {
            fn value_schema(_: &str, _: &str) -> $crate::config::keys::ValueSchema {
                let words = [Self::$First, $(Self::$Variant),*].map(|choice| choice.word().to_owned());
                $crate::config::keys::ValueSchema::Choice(words.into())
            }
        }
    )*};
}
pub(super) use choices;
