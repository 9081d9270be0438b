#[test] fn fails() {}
