//! What somebody meant who mistyped a word of ours.

/// The known word closest to what was written, if any is close.
pub fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase().replace('-', "_");
    known
        .filter_map(|word| {
            let plain = word.replace('-', "_");
            let distance = strsim::damerau_levenshtein(&written, &plain);
            let begins = written.len() >= 4 && plain.starts_with(&written);
            (distance <= (plain.len() / 3).max(1) || begins).then_some((distance, word))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}
