//! Names for containers that nobody named: `brave_otter`.

mod word;

use davit_proto::id::Name;

use word::{ADJECTIVES, NOUNS};

/// Two words, from the kernel's random numbers.
///
/// # Errors
/// When the kernel gives none.
pub fn generate() -> Result<Name, getrandom::Error> {
    Ok(two_words(random()?, ""))
}

/// Two words and a number, for when names without one were taken again and again: `brave_otter7`.
///
/// # Errors
/// When the kernel gives no random numbers.
pub fn generate_numbered(attempt: u32) -> Result<Name, getrandom::Error> {
    let random = random()?;
    // More digits the longer it takes, so that a host of any size finds a free one.
    let range = 10_u64.saturating_pow(attempt.clamp(1, 12));
    Ok(two_words(random, &(random[2] % range).to_string()))
}

fn random() -> Result<[u64; 3], getrandom::Error> {
    Ok([getrandom::u64()?, getrandom::u64()?, getrandom::u64()?])
}

fn two_words(random: [u64; 3], number: &str) -> Name {
    let pick = |words: &[&'static str], random: u64| {
        let at = random % u64::try_from(words.len()).unwrap_or(1);
        usize::try_from(at).ok().and_then(|at| words.get(at).copied()).unwrap_or("plain")
    };
    format!("{}_{}{number}", pick(&ADJECTIVES, random[0]), pick(&NOUNS, random[1]))
        .parse()
        .expect("words of lower-case letters make a name")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_words_are_many_and_each_stands_once() {
        assert!(ADJECTIVES.len() >= 100 && NOUNS.len() >= 200);
        for words in [&ADJECTIVES[..], &NOUNS[..]] {
            assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), words.len());
            assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase())));
        }
    }

    #[test]
    fn names_differ_and_may_have_a_number() {
        let names: BTreeSet<String> = (0..50).map(|_| generate().unwrap().to_string()).collect();
        assert!(names.len() > 40, "{names:?}");
        assert!(names.iter().all(|name| name.contains('_')));
        assert_eq!(two_words([0, 0, 0], "7").as_str(), format!("{}_{}7", ADJECTIVES[0], NOUNS[0]));
        assert_eq!(two_words([u64::MAX; 3], "").as_str().matches('_').count(), 1);
        generate_numbered(u32::MAX).unwrap();
    }
}
