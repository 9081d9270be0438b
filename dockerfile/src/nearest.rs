//! The nearest right word to a wrong one.

/// The candidate that `word` most probably means, when it is near enough to say so.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    // A wrong word of unbounded length is no misspelling of a short one.
    if word.chars().count() > 32 {
        return None;
    }
    let allowed = match word.chars().count() {
        0..=2 => 0,
        3..=5 => 1,
        _ => 2,
    };
    let scored =
        candidates.into_iter().map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate));
    scored
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|found| found.1)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    let mut last = None;
    for (line, character) in from.chars().enumerate() {
        let mut next = vec![line + 1];
        for (column, other) in to.iter().enumerate() {
            let replaced = row[column] + usize::from(character != *other);
            let mut best = replaced.min(row[column + 1] + 1).min(next[column] + 1);
            if column > 0 && last == Some(*other) && to[column - 1] == character {
                best = best.min(before[column - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
        last = Some(character);
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["RUN", "COPY", "ENTRYPOINT", "EXPOSE", "ENV"];
        assert_eq!(nearest("rnu", known), Some("RUN"));
        assert_eq!(nearest("COYP", known), Some("COPY"));
        assert_eq!(nearest("ENTRYPIONT", known), Some("ENTRYPOINT"));
        assert_eq!(nearest("expsoe", known), Some("EXPOSE"));
        assert_eq!(nearest("INSTALL", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest(&"R".repeat(100_000), known), None);
    }
}
