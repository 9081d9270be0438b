//! The reference parser never panics, and what it accepts it prints so that it is accepted again as the same.
#![no_main]

use davit_image::reference::ImageRef;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let Ok(reference) = ImageRef::parse(input) else { return };
    assert_eq!(ImageRef::parse(&reference.to_string()).as_ref(), Ok(&reference), "its full form");
    assert_eq!(ImageRef::parse(&reference.familiar()).as_ref(), Ok(&reference), "its short form");
});
