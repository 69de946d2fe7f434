//! The configuration reference, rendered from the list of keys that all checks use.

use super::{
    environment::PREFIX,
    keys::{self, KeySchema, SectionSchema, ValueSchema, joined},
};
use std::fmt::Write;

/// Renders `docs/configuration.md` from the schema.
pub fn markdown() -> String {
    let mut out = include_str!("reference.md").to_owned();
    section(keys::root(), "", &mut out);
    out
}

fn section(section: &SectionSchema, path: &str, out: &mut String) {
    let heading = match path {
        "" => "At the top of the file".to_owned(),
        path => format!("`{}`", section.header(path)),
    };
    // Writing to a string cannot fail.
    let _ = write!(out, "\n## {heading}\n");
    if !section.doc.is_empty() && !path.is_empty() {
        let _ = write!(out, "\n{}\n", section.doc);
    }
    let _ = write!(
        out,
        "\n| Key | Value | Default | Meaning |\n|---|---|---|---|\n"
    );
    for key in &section.keys {
        let default = match (&key.default, key.required) {
            (Some(value), _) => format!("`{value}`"),
            (None, true) => "required".to_owned(),
            (None, false) => "none".to_owned(),
        };
        let (name, value, doc) = (&key.name, value(key), &key.doc);
        let _ = writeln!(
            out,
            "| `{name}` | {value} | {default} | {} |",
            doc.replace('|', "\\|")
        );
    }
    if let Some(key) = section.keys.iter().find(|key| key.name != "name") {
        let middle = match (path, path.strip_prefix("forward")) {
            ("", _) => String::new(),
            (_, Some(rest)) => format!("FORWARD__NAME{}__", variable(rest)),
            (path, None) => match path.strip_prefix("outlet") {
                Some(rest) => format!("OUTLET__NAME{}__", variable(rest)),
                None => format!("{}__", variable(path)),
            },
        };
        let key = key.name.to_uppercase();
        let _ = write!(out, "\nAs a variable: `{PREFIX}{middle}{key}` and so on.\n");
    }
    for inner in &section.sections {
        self::section(inner, &joined(path, &inner.name), out);
    }
}

fn value(key: &KeySchema) -> String {
    match &key.kind {
        ValueSchema::Text if key.name.ends_with("_file") => "file".to_owned(),
        ValueSchema::Text if key.name.ends_with("_dir") => "folder".to_owned(),
        ValueSchema::Text => "string".to_owned(),
        ValueSchema::Choice(words) => {
            let words: Vec<_> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
            words.join(", ")
        }
        ValueSchema::Integer(min, max) => format!("number, {min} to {max}"),
        ValueSchema::Duration(min, max) => format!("duration, {min} to {max}"),
        ValueSchema::Size(min, max) => format!("size, {min} to {max}"),
        ValueSchema::Flag => "`true` or `false`".to_owned(),
        ValueSchema::List => "array of strings".to_owned(),
        ValueSchema::Tables(members) => {
            format!("array of tables with `{}`", members.join("` and `"))
        }
    }
}

fn variable(path: &str) -> String {
    path.to_uppercase().replace('.', "__")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    #[test]
    fn the_reference_in_docs_is_the_one_the_types_give() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == super::markdown(),
            "docs/configuration.md is out of date; run: make docs"
        );
    }
}
