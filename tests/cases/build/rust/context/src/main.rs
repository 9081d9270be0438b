fn main() { println!("meter") }
