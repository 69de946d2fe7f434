//! Reads environment variables against the schema. Reports wrong ones and leaves them out.

use super::{
    keys::{self, SectionSchema, joined},
    layer::{ConfigLayer, RepeatedNames},
    problem::{ConfigProblems, ValueOrigin},
};

/// The layer of variables that begin with [`PREFIX`]. `known` are the names from the files.
pub(super) fn layer<'a>(
    variables: impl Iterator<Item = (&'a str, &'a str)>,
    known: &RepeatedNames,
    problems: &mut ConfigProblems,
) -> ConfigLayer {
    let mut layer = ConfigLayer::default();
    for (name, text) in variables {
        let Some(path) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let origin = ValueOrigin::environment(name);
        if let Err(wrong) = put_variable(&mut layer, path, text, &origin, known) {
            problems.add(origin, wrong.key, wrong.text);
        }
    }
    layer
}

struct VariableError {
    key: String,
    text: String,
}

fn put_variable(
    layer: &mut ConfigLayer,
    path: &str,
    text: &str,
    origin: &ValueOrigin,
    known: &RepeatedNames,
) -> Result<(), VariableError> {
    let lower = path.to_lowercase();
    let mut parts = lower.split("__").peekable();
    let mut section = keys::root();
    // Path of the section in the schema, and in the tree, which has the names of forwards and outlets.
    let mut schema_path = String::new();
    let mut path_parts: Vec<&str> = Vec::new();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        path_parts.push(part);
        let Some(inner) = section.section(part).filter(|_| !last) else {
            // A key or an unknown name: the rest belongs to the name.
            let rest: String = parts.map(|part| format!("__{part}")).collect();
            let name = format!("{part}{rest}");
            return put_key(
                layer,
                section,
                &schema_path,
                &path_parts,
                &name,
                text,
                origin,
            )
            .map_err(|text| VariableError {
                key: path_parts.join(".") + &rest,
                text,
            });
        };
        if inner.repeated {
            let written = parts.next().unwrap_or_default();
            path_parts.push(entry_named(part, written, known.of(part)).map_err(|text| {
                VariableError {
                    key: format!("{part}.{written}"),
                    text,
                }
            })?);
        }
        schema_path = joined(&schema_path, part);
        section = inner;
    }
    Ok(())
}

fn entry_named<'a>(
    section: &str,
    written: &str,
    names: &'a [(String, ValueOrigin)],
) -> Result<&'a str, String> {
    let same = |name: &&String| name.to_lowercase().replace('-', "_") == written;
    let mut found = names.iter().map(|(name, _)| name).filter(same);
    match (found.next(), found.next()) {
        (Some(name), None) => Ok(name),
        (Some(one), Some(other)) => Err(format!(
            "{one:?} and {other:?} have the same name in a variable; set the key in a file"
        )),
        (None, _) => Err(match names {
            [] => format!("no [[{section}]] is named {written:?}; no file has one"),
            names => format!(
                "no [[{section}]] is named {written:?}; the files have: {}",
                names
                    .iter()
                    .map(|(name, _)| name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        }),
    }
}

fn put_key(
    layer: &mut ConfigLayer,
    section: &SectionSchema,
    schema_path: &str,
    path: &[&str],
    name: &str,
    text: &str,
    origin: &ValueOrigin,
) -> Result<(), String> {
    if section.section(name).is_some() {
        return Err("a section, not a key; append two underscores and a key".to_owned());
    }
    if section.repeated && name == "name" {
        return Err("the name identifies the section; set it in a file".to_owned());
    }
    let Some(key) = section.key(name) else {
        return Err(section.unknown_key(name, schema_path, keys::root()));
    };
    let value = key.parse_value(key.read_variable(text))?;
    layer.put(path, value, origin);
    Ok(())
}

/// Prefix of the agent's variables.
pub(super) const PREFIX: &str = "JIRA_TUNNEL_AGENT__";
