//! Numbers that names and ranges are made from.

/// FNV-1a of texts, `/` between them: the same on every version, for what is made from it must be found again.
pub fn fnv<'a>(parts: impl IntoIterator<Item = &'a str>) -> u64 {
    let text = parts.into_iter().collect::<Vec<_>>().join("/");
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_values() {
        assert_eq!(fnv([]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(["foobar"]), 0x8594_4171_f739_67e8);
    }
}
