//! Selects the forward to log in for.

use crate::{cli::exit::UsageError, config::ForwardConfig};

/// The one of that name; without a name the only one whose login needs a person.
pub(super) fn forward<'a>(
    forwards: &'a [ForwardConfig],
    name: Option<&str>,
) -> Result<&'a ForwardConfig, UsageError> {
    let names = |chosen: &[&ForwardConfig]| {
        let names: Vec<_> = chosen.iter().map(|forward| &*forward.name).collect();
        names.join(", ")
    };
    let all: Vec<_> = forwards.iter().collect();
    if let Some(name) = name {
        return forwards
            .iter()
            .find(|forward| &*forward.name == name)
            .ok_or_else(|| {
                UsageError(format!(
                    "no forward is named {name:?}; there are: {}",
                    names(&all)
                ))
            });
    }
    let candidates: Vec<_> = forwards
        .iter()
        .filter(|forward| forward.auth.stores_tokens())
        .collect();
    match (candidates.as_slice(), forwards) {
        ([only], _) => Ok(only),
        // The refusal will name its mode.
        ([], [only]) => Ok(only),
        ([], _) => Err(UsageError(
            "no forward needs a login; only those with mode = \"oauth1\" or \"oauth2\" do"
                .to_owned(),
        )),
        (several, _) => Err(UsageError(format!(
            "several forwards need a login; name one of: {}",
            names(several)
        ))),
    }
}
