//! Reads one file against the schema. Keeps the line of each value; reports wrong values and leaves them out.

use super::{
    keys::{self, SectionSchema, joined},
    problem::{ConfigProblems, ValueOrigin},
    value::WrittenValue,
};
use config::{ConfigError, Map, Source, Value, ValueKind};
use std::path::Path;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Values of one file or of the environment. Forwards and outlets are keyed by name, so that layers merge by name.
#[derive(Clone, Debug, Default)]
pub(super) struct ConfigLayer {
    values: Map<String, Value>,
    /// Names of its forwards and outlets.
    pub names: RepeatedNames,
}

/// The names of repeated sections in order, with the origin of each.
#[derive(Clone, Debug, Default)]
pub(super) struct RepeatedNames {
    /// Of `[[forward]]`.
    pub forward: Vec<(String, ValueOrigin)>,
    /// Of `[[outlet]]`.
    pub outlet: Vec<(String, ValueOrigin)>,
}

/// The repeated sections.
pub(super) const REPEATED_SECTIONS: [&str; 2] = ["forward", "outlet"];

impl RepeatedNames {
    /// The names of this section.
    pub(super) fn of(&self, section: &str) -> &[(String, ValueOrigin)] {
        match section {
            "outlet" => &self.outlet,
            _ => &self.forward,
        }
    }

    /// Adds a name unless the section has it.
    pub(super) fn add(&mut self, section: &str, name: &str, origin: &ValueOrigin) {
        if self.of(section).iter().any(|(known, _)| known == name) {
            return;
        }
        let names = match section {
            "outlet" => &mut self.outlet,
            _ => &mut self.forward,
        };
        names.push((name.to_owned(), origin.clone()));
    }

    /// Adds all names of another layer.
    pub(super) fn add_all(&mut self, others: &Self) {
        for section in REPEATED_SECTIONS {
            for (name, origin) in others.of(section) {
                self.add(section, name, origin);
            }
        }
    }
}

impl Source for ConfigLayer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.values.clone())
    }
}

impl ConfigLayer {
    /// Parses the text of a file and reports every problem in it.
    pub(super) fn from_toml(path: &Path, text: &str, problems: &mut ConfigProblems) -> Self {
        let (document, errors) = DeTable::parse_recoverable(text);
        let mut reader = LayerReader {
            path,
            text,
            problems,
            names: RepeatedNames::default(),
        };
        for error in &errors {
            let origin = reader.origin(error.span().map_or(0, |span| span.start));
            // Only the message: the full text of the error would repeat the line, which may contain a secret.
            let message = error.message().replace('\n', ", ");
            reader
                .problems
                .add(origin, "", format!("not valid TOML: {message}"));
        }
        if !errors.is_empty() {
            return Self::default();
        }
        let values = reader.section(document.get_ref(), keys::root(), "", "");
        Self {
            values,
            names: reader.names,
        }
    }

    /// Sets one checked value.
    pub(super) fn put(&mut self, path: &[&str], value: ValueKind, origin: &ValueOrigin) {
        let Some((last, sections)) = path.split_last() else {
            return;
        };
        let mut table = &mut self.values;
        for section in sections {
            let inner = table
                .entry((*section).to_owned())
                .or_insert_with(|| Value::new(None, ValueKind::Table(Map::new())));
            let ValueKind::Table(next) = &mut inner.kind else {
                return;
            };
            table = next;
        }
        table.insert((*last).to_owned(), with_origin(value, origin));
    }
}

/// State while one file is read.
struct LayerReader<'a> {
    path: &'a Path,
    text: &'a str,
    problems: &'a mut ConfigProblems,
    names: RepeatedNames,
}

impl LayerReader<'_> {
    /// `schema_path` is the path of the section in the schema, `label` its path in messages.
    fn section(
        &mut self,
        table: &DeTable<'_>,
        section: &SectionSchema,
        schema_path: &str,
        label: &str,
    ) -> Map<String, Value> {
        let mut values = Map::new();
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let at = joined(label, name.get_ref());
            let origin = self.origin(name.span().start);
            let name: &str = name.get_ref();
            if let Some(inner) = section.section(name) {
                let schema_path = joined(schema_path, name);
                if let Some(found) = self.subsection(value, inner, &schema_path, &at, &origin) {
                    values.insert(
                        name.to_owned(),
                        with_origin(ValueKind::Table(found), &origin),
                    );
                }
            } else if let Some(key) = section.key(name) {
                match key.parse_value(written_value(value.get_ref())) {
                    Ok(value) => drop(values.insert(name.to_owned(), with_origin(value, &origin))),
                    Err(why) => self.problems.add(origin, at, why),
                }
            } else {
                let why = section.unknown_key(name, schema_path, keys::root());
                self.problems.add(origin, at, why);
            }
        }
        values
    }

    fn subsection(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        section: &SectionSchema,
        schema_path: &str,
        label: &str,
        origin: &ValueOrigin,
    ) -> Option<Map<String, Value>> {
        match value.get_ref() {
            DeValue::Table(table) if !section.repeated => {
                Some(self.section(table, section, schema_path, label))
            }
            DeValue::Array(tables) if section.repeated => {
                let mut found = Map::new();
                for (index, item) in tables.iter().enumerate() {
                    let origin = self.origin(item.span().start);
                    let label = format!("{label}[{index}]");
                    let DeValue::Table(table) = item.get_ref() else {
                        self.wrong_section(section, &label, &origin);
                        continue;
                    };
                    if let Some(name) = self.unique_name(table, &section.name, &label, &origin) {
                        let label = format!("{label} {name:?}");
                        let values = self.section(table, section, schema_path, &label);
                        found.insert(name, with_origin(ValueKind::Table(values), &origin));
                    }
                }
                Some(found)
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                self.wrong_section(section, label, origin);
                None
            }
        }
    }

    /// The name of a forward or outlet, by which layers are merged.
    fn unique_name(
        &mut self,
        table: &DeTable<'_>,
        section: &str,
        label: &str,
        origin: &ValueOrigin,
    ) -> Option<String> {
        let label = joined(label, "name");
        let Some(written) = table.get("name") else {
            let text = format!("missing; give each {section} a unique name, like name = \"jira\"");
            self.problems.add(origin.clone(), label, text);
            return None;
        };
        let origin = self.origin(written.span().start);
        let name = written.get_ref().as_str().filter(|name| is_name(name));
        let Some(name) = name else {
            let text = format!(
                "not a name; use 1 to {NAME_LEN} letters, digits, \"-\" or \"_\", like name = \"jira\""
            );
            self.problems.add(origin, label, text);
            return None;
        };
        let mut known = self.names.of(section).iter();
        if let Some((_, first)) = known.find(|(known, _)| known == name) {
            let text = format!(
                "{name:?} is already the name of the {section} at {first}; use another one"
            );
            self.problems.add(origin, label, text);
            return None;
        }
        self.names.add(section, name, &origin);
        Some(name.to_owned())
    }

    fn wrong_section(&mut self, section: &SectionSchema, label: &str, origin: &ValueOrigin) {
        let header = section.header(&section.name);
        let text = format!("expected a section; write {header} with its keys below");
        self.problems.add(origin.clone(), label, text);
    }

    fn origin(&self, offset: usize) -> ValueOrigin {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        ValueOrigin::line(self.path, line)
    }
}

fn written_value(value: &DeValue<'_>) -> WrittenValue {
    match value {
        DeValue::String(text) => WrittenValue::Text(text.to_string()),
        DeValue::Integer(number) => {
            let digits = i64::from_str_radix(number.as_str(), number.radix());
            digits.map_or(
                WrittenValue::Other("a number too large"),
                WrittenValue::Integer,
            )
        }
        DeValue::Boolean(flag) => WrittenValue::Flag(*flag),
        DeValue::Array(items) => WrittenValue::List(
            items
                .iter()
                .map(|item| written_value(item.get_ref()))
                .collect(),
        ),
        DeValue::Float(_) => WrittenValue::Other("a number with a fraction"),
        DeValue::Datetime(_) => WrittenValue::Other("a date"),
        DeValue::Table(table) => WrittenValue::Table(
            table
                .iter()
                .map(|(name, value)| (name.get_ref().to_string(), written_value(value.get_ref())))
                .collect(),
        ),
    }
}

fn with_origin(value: ValueKind, origin: &ValueOrigin) -> Value {
    Value::new(Some(&origin.as_str().to_owned()), value)
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=NAME_LEN).contains(&text.len()) && text.bytes().all(plain)
}

/// Bytes. A name is a metric label and a column in tables.
const NAME_LEN: usize = 64;
