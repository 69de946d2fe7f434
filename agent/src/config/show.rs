//! The effective configuration as valid TOML, each value with its origin. It contains no secrets, only the names of
//! their files.

use super::{
    keys::{self, KeySchema, SectionSchema, joined},
    merged::{MergedConfig, MergedSection},
    problem::ValueOrigin,
    validate::{HTTP_SECTIONS, TLS_KEYS},
};
use config::{Value, ValueKind};
use std::{fmt::Write, path::Path};

impl MergedConfig {
    /// Renders it. Origins in `folder` are shown relative to it. Leaves out keys without value and default, and those
    /// that do not apply to an upstream without TLS or HTTP.
    pub fn show(&self, folder: &Path) -> String {
        let mut lines = Vec::new();
        self.section(keys::root(), &self.top(), "", &mut lines);
        render(&lines, &format!("{}/", folder.display()))
    }

    fn section(
        &self,
        schema: &SectionSchema,
        section: &MergedSection<'_>,
        path: &str,
        lines: &mut Vec<ShownLine>,
    ) {
        let upstream = section.value("upstream").map(Value::to_string);
        let upstream = upstream.unwrap_or_default().to_lowercase();
        let without_tls = path == "forward" && !upstream.starts_with("https:");
        let is_tcp = path == "forward" && upstream.starts_with("tcp:");
        for key in &schema.keys {
            if !(without_tls && TLS_KEYS.contains(&key.name.as_str())) {
                lines.extend(line(key, section));
            }
        }
        for inner in &schema.sections {
            if is_tcp && HTTP_SECTIONS.contains(&inner.name.as_str()) {
                continue;
            }
            let path = joined(path, &inner.name);
            if inner.repeated {
                for index in 0..self.names.of(&inner.name).len() {
                    lines.push(ShownLine::Header(inner.header(&path)));
                    self.section(inner, &self.entry(&inner.name, index), &path, lines);
                }
            } else {
                lines.push(ShownLine::Header(inner.header(&path)));
                self.section(inner, &section.section(&inner.name), &path, lines);
            }
        }
    }
}

enum ShownLine {
    Header(String),
    Value(String, ValueOrigin),
}

fn line(key: &KeySchema, section: &MergedSection<'_>) -> Option<ShownLine> {
    let (value, origin) = match section.value(&key.name) {
        Some(written) => (toml(written), section.origin(&key.name)),
        None => {
            let default = key.default.as_ref()?;
            // Numbers, strings and arrays of strings are the same in JSON and TOML.
            (default.to_string(), ValueOrigin::default_value())
        }
    };
    Some(ShownLine::Value(format!("{} = {value}", key.name), origin))
}

fn toml(value: &Value) -> String {
    let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
    match &value.kind {
        ValueKind::String(written) => text(written),
        ValueKind::Array(items) => {
            let items: Vec<_> = items.iter().map(toml).collect();
            format!("[{}]", items.join(", "))
        }
        ValueKind::Table(members) => {
            let mut members: Vec<_> = members
                .iter()
                .map(|(name, value)| format!("{name} = {}", toml(value)))
                .collect();
            members.sort();
            format!("{{ {} }}", members.join(", "))
        }
        ValueKind::Nil
        | ValueKind::Boolean(_)
        | ValueKind::I64(_)
        | ValueKind::I128(_)
        | ValueKind::U64(_)
        | ValueKind::U128(_)
        | ValueKind::Float(_) => value.to_string(),
    }
}

fn render(lines: &[ShownLine], folder: &str) -> String {
    let width = lines.iter().map(|line| match line {
        ShownLine::Value(text, _) if text.len() <= WIDEST => text.len(),
        ShownLine::Header(_) | ShownLine::Value(..) => 0,
    });
    let width = width.max().unwrap_or_default();
    let mut out = String::new();
    for line in lines {
        // Writing to a string cannot fail.
        let _ = match line {
            ShownLine::Header(header) => writeln!(out, "\n{header}"),
            ShownLine::Value(text, origin) => {
                let origin = origin.as_str();
                let origin = origin.strip_prefix(folder).unwrap_or(origin);
                writeln!(out, "{text:width$}  # {origin}")
            }
        };
    }
    out
}

/// Columns. Longer lines do not move the origins to the right.
const WIDEST: usize = 60;
