//! Docker's rules as a table, and what must hold for every text.

use proptest::prelude::*;

use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Input, full form, familiar form.
const ACCEPTED: &[(&str, &str, &str)] = &[
    ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
    ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
    ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
    ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
    ("docker.io/library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
    ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
    ("index.docker.io/user/app:v1", "docker.io/user/app:v1", "user/app:v1"),
    ("docker/whalesay:latest", "docker.io/docker/whalesay:latest", "docker/whalesay:latest"),
    ("user/app", "docker.io/user/app:latest", "user/app:latest"),
    ("a/b/c", "docker.io/a/b/c:latest", "a/b/c:latest"),
    ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
    ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
    ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
    ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
    ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1"),
    ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
    ("[fd00:1:2::3]/x/y:t", "[fd00:1:2::3]/x/y:t", "[fd00:1:2::3]/x/y:t"),
    ("quay.io/a/b", "quay.io/a/b:latest", "quay.io/a/b:latest"),
    ("registry:5000/x", "registry:5000/x:latest", "registry:5000/x:latest"),
    ("Registry/x", "Registry/x:latest", "Registry/x:latest"),
    ("a.b/c__d/e---f/g.h:_T", "a.b/c__d/e---f/g.h:_T", "a.b/c__d/e---f/g.h:_T"),
    ("docker.io/localhost/x", "docker.io/localhost/x:latest", "docker.io/localhost/x:latest"),
    ("docker.io/with.dot/x", "docker.io/with.dot/x:latest", "docker.io/with.dot/x:latest"),
    ("foo_bar", "docker.io/library/foo_bar:latest", "foo_bar:latest"),
];

#[test]
fn accepts_and_normalises_as_docker_does() {
    for (input, full, familiar) in ACCEPTED {
        let reference = ImageRef::parse(input).unwrap_or_else(|error| panic!("{input}: {error}"));
        assert_eq!(reference.to_string(), *full, "{input}");
        assert_eq!(reference.familiar(), *familiar, "{input}");
        assert_eq!(ImageRef::parse(familiar).as_ref(), Ok(&reference), "{input}");
    }
}

#[test]
fn a_digest_takes_the_place_of_the_default_tag() {
    let reference = ImageRef::parse(&format!("busybox@{DIGEST}")).unwrap();
    assert_eq!((reference.tag(), reference.digest().map(Digest::as_str)), (None, Some(DIGEST)));
    assert_eq!(reference.to_string(), format!("docker.io/library/busybox@{DIGEST}"));

    let both = ImageRef::parse(&format!("busybox:1@{DIGEST}")).unwrap();
    assert_eq!((both.tag(), both.digest().map(Digest::as_str)), (Some("1"), Some(DIGEST)));
    assert_eq!(both.familiar(), format!("busybox:1@{DIGEST}"));
}

#[test]
fn a_bare_name_keeps_its_tag_open() {
    assert_eq!(ImageRef::parse_bare("busybox").unwrap().tag(), None);
    assert_eq!(ImageRef::parse_bare("busybox").unwrap().to_string(), "docker.io/library/busybox");
    assert_eq!(ImageRef::parse_bare("busybox:2").unwrap().tag(), Some("2"));
}

#[test]
fn a_name_of_64_hex_digits_is_an_image_id() {
    let id = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(ImageRef::parse(id), Err(ReferenceError::Identifier(id.to_owned())));
    let qualified = ImageRef::parse(&format!("library/{id}")).unwrap();
    assert_eq!(ImageRef::parse(&qualified.familiar()).unwrap(), qualified);
}

/// Short texts that are no references.
#[rustfmt::skip]
const REFUSED: &[&str] = &[
    "", " ", "/", ":", "@", "a//b", "/a", "a/", "a:", "a@", ":a", "a:b:c", "a b", "a\nb", "ä",
    "Uppercase:tag", "test:5000/Uppercase/x", "a/Upper", "-a", "a-", ".a", "a.", "_a", "a_", "a..b",
    "a___b", "a._b", "-x.io/a", "x-.io/a", "x..io/a", ".io/a", "foo_bar.com/a", "localhost:0/a",
    "localhost:65536/a", "localhost:/a", "localhost:5x/a", "[::1/a", "[::g]/a", "[::1]5000/a", "[]/a",
    "a:.tag", "a:-tag", "a:t/b", "a:tä", "https://docker.io/busybox", "a@sha256:", "../x", "a/../b", "./a",
    "a\0b",
];

#[test]
fn refuses_what_docker_refuses() {
    let long_tag = format!("busybox:{}", "t".repeat(TAG_MAX + 1));
    let long_name = format!("a/{}", "b/".repeat(130) + "c");
    let short_digest = "busybox@sha256:e3b0c4";
    let upper_digest = format!("busybox@{}", DIGEST.to_uppercase());
    let other_algorithm = format!("busybox@sha512:{}{}", &DIGEST[7..], &DIGEST[7..]);
    let long = [short_digest, &long_tag, &long_name, &upper_digest, &other_algorithm];
    for input in REFUSED.iter().copied().chain(long) {
        assert!(ImageRef::parse(input).is_err(), "{input:?} was accepted");
    }
    assert_eq!(ImageRef::parse("a/Upper"), Err(ReferenceError::Uppercase("a/Upper".to_owned())));
    assert_eq!(
        ImageRef::parse(&"a".repeat(INPUT_MAX + 1)),
        Err(ReferenceError::TooLong { length: INPUT_MAX + 1 })
    );
    assert!(matches!(ImageRef::parse(&"a".repeat(250)), Err(ReferenceError::NameTooLong { length: 268 })));
}

#[test]
fn tags_and_digests_can_be_exchanged() {
    let reference = ImageRef::parse("user/app:1").unwrap();
    assert_eq!(reference.with_tag("2").unwrap().to_string(), "docker.io/user/app:2");
    assert_eq!(
        reference.with_digest(DIGEST.parse().unwrap()).to_string(),
        format!("docker.io/user/app@{DIGEST}")
    );
    assert!(reference.with_tag("a b").is_err());
}

proptest! {
    #[test]
    fn never_panics_and_prints_what_it_parses(input in "\\PC{0,300}") {
        if let Ok(reference) = ImageRef::parse(&input) {
            prop_assert_eq!(ImageRef::parse(&reference.to_string()), Ok(reference));
        }
    }

    #[test]
    fn near_references_never_panic(input in "[a-zA-Z0-9./:@_\\[\\]-]{0,80}") {
        if let Ok(reference) = ImageRef::parse(&input) {
            prop_assert_eq!(ImageRef::parse(&reference.to_string()), Ok(reference.clone()));
            prop_assert_eq!(ImageRef::parse(&reference.familiar()), Ok(reference));
        }
    }

    #[test]
    fn every_well_formed_reference_is_its_own_print(
        domain in "([a-z0-9]{1,8}\\.){1,3}[a-z]{2,5}(:[1-9][0-9]{0,3})?|localhost(:5000)?|\\[::1\\]:5000",
        repository in "[a-z0-9]{1,8}((\\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}(/[a-z0-9]{1,8}){0,3}",
        tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}",
        digest in proptest::option::of("sha256:[0-9a-f]{64}"),
    ) {
        prop_assume!(domain != LEGACY_DEFAULT_DOMAIN && domain != DEFAULT_DOMAIN);
        let digest = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        let text = format!("{domain}/{repository}:{tag}{digest}");
        let reference = ImageRef::parse(&text).unwrap();
        prop_assert_eq!(reference.to_string(), text.clone());
        prop_assert_eq!(reference.familiar(), text);
    }
}
