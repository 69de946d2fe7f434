//! Which forward a login is for.

use crate::{cli::exit::BadUsage, config::Forward};

/// The one of that name; without a name the only one whose login needs a person.
pub fn forward<'a>(forwards: &'a [Forward], name: Option<&str>) -> Result<&'a Forward, BadUsage> {
    let names = |chosen: &[&Forward]| {
        let names: Vec<_> = chosen.iter().map(|forward| &*forward.name).collect();
        names.join(", ")
    };
    let all: Vec<_> = forwards.iter().collect();
    if let Some(name) = name {
        return forwards
            .iter()
            .find(|forward| &*forward.name == name)
            .ok_or_else(|| {
                BadUsage(format!(
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
        // Its mode is told with the refusal.
        ([], [only]) => Ok(only),
        ([], _) => Err(BadUsage(
            "no forward has a login that needs a person; those with mode = \"oauth1\" or \"oauth2\" do".to_owned(),
        )),
        (several, _) => Err(BadUsage(format!(
            "there are several forwards to log in to; name one of: {}",
            names(several)
        ))),
    }
}
