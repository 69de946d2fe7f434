//! Merges the layers into one tree in which every value keeps its origin.

use super::{
    keys::{self, SectionSchema, joined},
    layer::{REPEATED_SECTIONS, RepeatedNames},
    problem::{ConfigProblems, ValueOrigin},
    raw,
    source::ConfigSources,
};
use config::{Value, ValueKind};

/// The merged configuration, before it is validated.
#[derive(Clone, Debug)]
pub struct MergedConfig {
    pub(super) tree: Value,
    /// Names of the forwards and outlets in the order of their first occurrence, with its origin.
    pub(super) names: RepeatedNames,
    /// The main file, as the origin of missing keys.
    file: ValueOrigin,
}

/// One section of the merged tree, with its path for messages.
#[derive(Clone)]
pub(super) struct MergedSection<'a> {
    label: String,
    section: Option<&'a Value>,
    /// Where the section begins: the origin of keys that are not set.
    origin: ValueOrigin,
}

impl MergedConfig {
    /// Reads and merges all layers. Reports everything that is wrong.
    pub(super) fn read(sources: &ConfigSources, problems: &mut ConfigProblems) -> Self {
        let layers = sources.layers(problems);
        let mut names = RepeatedNames::default();
        for layer in &layers {
            names.add_all(&layer.names);
        }
        let mut builder = config::Config::builder();
        for layer in layers {
            builder = builder.add_source(layer);
        }
        let file = ValueOrigin::file(&sources.file);
        let tree = match builder.build() {
            Ok(merged) => merged.cache,
            Err(error) => {
                problems.add(file.clone(), "", error.to_string());
                Value::new(None, ValueKind::Table(config::Map::new()))
            }
        };
        Self { tree, names, file }
    }

    /// The typed form. `None` if required keys are missing, which are reported.
    pub(super) fn to_raw(&self, problems: &mut ConfigProblems) -> Option<raw::RawConfig> {
        let before = problems.len();
        self.report_missing(keys::root(), &self.top(), problems);
        if self.names.forward.is_empty() {
            let text = "no forward; add a [[forward]] section with name, bind and upstream";
            problems.add(self.file.clone(), "forward", text);
        }
        if problems.len() > before {
            return None;
        }
        let mut tree = self.tree.clone();
        if let ValueKind::Table(table) = &mut tree.kind {
            for section in REPEATED_SECTIONS {
                let mut by_name = match table.remove(section).map(|value| value.kind) {
                    Some(ValueKind::Table(by_name)) => by_name,
                    _ => config::Map::new(),
                };
                let names = self.names.of(section).iter();
                let in_order: Vec<Value> =
                    names.filter_map(|(name, _)| by_name.remove(name)).collect();
                table.insert(section.to_owned(), in_order.into());
            }
        }
        // Every value was checked against the schema, which comes from the same types.
        tree.try_deserialize()
            .map_err(|error| problems.add(self.file.clone(), "", error.to_string()))
            .ok()
    }

    /// Whether neither the tunnel nor a forward is set, as in the packaged file.
    pub(super) fn is_blank(&self) -> bool {
        self.names.forward.is_empty() && !self.top().is_written("tunnel")
    }

    /// Adds the defaults that depend on other keys, so that they are shown.
    pub(super) fn note_derived_defaults(&mut self, tunnel: &crate::tunnel::Settings) {
        let folder = tunnel.channel.spool_dir.display().to_string();
        self.note_default(&["tunnel", "channel"], "spool_dir", folder);
        // Between 1 and 16.
        let connections = i64::try_from(tunnel.connections).unwrap_or(i64::MAX);
        self.note_default(&["tunnel"], "connections", connections);
        self.note_default(&["tunnel"], "slots", tunnel.slots.to_string());
    }

    fn note_default(&mut self, path: &[&str], key: &str, value: impl Into<ValueKind>) {
        let mut section = &mut self.tree;
        for name in path {
            let ValueKind::Table(table) = &mut section.kind else {
                return;
            };
            let empty = || Value::new(None, ValueKind::Table(config::Map::new()));
            section = table.entry((*name).to_owned()).or_insert_with(empty);
        }
        if let ValueKind::Table(table) = &mut section.kind {
            let origin = ValueOrigin::default_value().as_str().to_owned();
            let value = Value::new(Some(&origin), value);
            table.entry(key.to_owned()).or_insert(value);
        }
    }

    /// The folder of the runtime socket: set or default.
    pub(super) fn runtime_dir(&self) -> String {
        let written = member(&self.tree, "runtime_dir").map(Value::to_string);
        written.unwrap_or_else(|| raw::runtime_dir().display().to_string())
    }

    /// The folder of data that must survive a restart: set or default.
    pub(super) fn state_dir(&self) -> String {
        let written = member(&self.tree, "state_dir").map(Value::to_string);
        written.unwrap_or_else(|| raw::state_dir().display().to_string())
    }

    /// Index of the forward with this name.
    pub(super) fn position(&self, name: &str) -> usize {
        let found = self
            .names
            .forward
            .iter()
            .position(|(known, _)| known == name);
        found.unwrap_or_default()
    }

    /// The section at the top of the file.
    pub(super) fn top(&self) -> MergedSection<'_> {
        MergedSection {
            label: String::new(),
            section: Some(&self.tree),
            origin: self.file.clone(),
        }
    }

    /// The section of the forward at this index.
    pub(super) fn forward(&self, index: usize) -> MergedSection<'_> {
        self.entry("forward", index)
    }

    /// The repeated section of this kind at this index.
    pub(super) fn entry(&self, section: &str, index: usize) -> MergedSection<'_> {
        let (name, origin) = match self.names.of(section).get(index) {
            Some((name, origin)) => (name.as_str(), origin.clone()),
            None => ("", self.file.clone()),
        };
        MergedSection {
            label: format!("{section}[{index}] {name:?}"),
            section: member(&self.tree, section).and_then(|all| member(all, name)),
            origin,
        }
    }

    fn report_missing(
        &self,
        schema: &SectionSchema,
        section: &MergedSection<'_>,
        problems: &mut ConfigProblems,
    ) {
        for key in schema.keys.iter().filter(|key| key.required) {
            if !section.is_written(&key.name) {
                let text = format!("missing; expected {}: {}", key.kind.description(), key.doc);
                problems.add(section.origin(&key.name), section.label(&key.name), text);
            }
        }
        for inner in &schema.sections {
            if inner.repeated {
                for index in 0..self.names.of(&inner.name).len() {
                    self.report_missing(inner, &self.entry(&inner.name, index), problems);
                }
            } else {
                self.report_missing(inner, &section.section(&inner.name), problems);
            }
        }
    }
}

impl<'a> MergedSection<'a> {
    /// An inner section, which need not be set.
    pub(super) fn section(&self, name: &str) -> Self {
        let section = self.section.and_then(|section| member(section, name));
        let written = section.and_then(Value::origin).map(ValueOrigin::from_text);
        MergedSection {
            label: self.label(name),
            section,
            origin: written.unwrap_or_else(|| self.origin.clone()),
        }
    }

    /// The value of a key, if it is set.
    pub(super) fn value(&self, key: &str) -> Option<&'a Value> {
        member(self.section?, key)
    }

    /// Whether a key, or any key of an inner section, is set.
    pub(super) fn is_written(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Where a key is set; if it is not, where its section begins.
    pub(super) fn origin(&self, key: &str) -> ValueOrigin {
        let written = self.value(key).and_then(Value::origin);
        written.map_or_else(|| self.origin.clone(), ValueOrigin::from_text)
    }

    /// The whole path of a key, for messages.
    pub(super) fn label(&self, key: &str) -> String {
        joined(&self.label, key)
    }

    /// Reports a problem of a key.
    pub(super) fn error(&self, key: &str, text: impl Into<String>, problems: &mut ConfigProblems) {
        problems.add(self.origin(key), self.label(key), text);
    }

    /// Reports a problem of a key that depends on another one. If the key is not set, the origin is that of the other
    /// one.
    pub(super) fn error_at(
        &self,
        key: &str,
        other: &str,
        text: impl Into<String>,
        problems: &mut ConfigProblems,
    ) {
        let written = if self.is_written(key) { key } else { other };
        problems.add(self.origin(written), self.label(key), text);
    }

    /// Reports a problem of one element of an array.
    pub(super) fn element_error(
        &self,
        key: &str,
        index: usize,
        text: String,
        problems: &mut ConfigProblems,
    ) {
        problems.add(
            self.origin(key),
            self.label(&format!("{key}[{index}]")),
            text,
        );
    }

    /// The value; an error is reported as a problem of the key.
    pub(super) fn value_or_error<T, E: std::fmt::Display>(
        &self,
        key: &str,
        result: Result<T, E>,
        problems: &mut ConfigProblems,
    ) -> Option<T> {
        result
            .map_err(|error| self.error(key, error.to_string(), problems))
            .ok()
    }
}

pub(super) fn member<'a>(table: &'a Value, name: &str) -> Option<&'a Value> {
    match &table.kind {
        ValueKind::Table(table) => table.get(name),
        ValueKind::Nil
        | ValueKind::Boolean(_)
        | ValueKind::I64(_)
        | ValueKind::I128(_)
        | ValueKind::U64(_)
        | ValueKind::U128(_)
        | ValueKind::Float(_)
        | ValueKind::String(_)
        | ValueKind::Array(_) => None,
    }
}
