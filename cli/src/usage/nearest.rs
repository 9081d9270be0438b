//! The command nearest to a word, for slips that clap's own likeness does not see: two letters of a short word
//! exchanged.

/// The one of `words` that is one slip away from `typed`: a letter too many, too few, another, or two neighbours
/// exchanged. None when there is none, or when the word is too short to tell.
pub fn nearest<'a>(typed: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let typed: Vec<char> = typed.chars().take(32).collect();
    if typed.len() < 2 {
        return None;
    }
    words.into_iter().find(|word| one_slip(&typed, &word.chars().collect::<Vec<_>>()))
}

fn one_slip(a: &[char], b: &[char]) -> bool {
    let same = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (rest_a, rest_b) = (a.get(same..).unwrap_or_default(), b.get(same..).unwrap_or_default());
    match (rest_a, rest_b) {
        ([_, a @ ..], b) if a == b => true,
        (a, [_, b @ ..]) if a == b => true,
        ([x, a @ ..], [y, b @ ..]) if a == b => x != y,
        ([x, p, a @ ..], [q, y, b @ ..]) => x == y && p == q && a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_fingers() {
        let words = ["run", "ps", "rm", "rmi", "logs", "stop"];
        let near = |typed| nearest(typed, words.into_iter());
        assert_eq!(near("rnu"), Some("run"));
        assert_eq!(near("lgos"), Some("logs"));
        assert_eq!(near("stp"), Some("stop"));
        assert_eq!(near("runn"), Some("run"));
        assert_eq!(near("sp"), Some("ps"));
        assert_eq!(near("banana"), None);
        assert_eq!(near("x"), None);
        assert_eq!(near(""), None);
    }
}
