//! The net: every canary in every form that it could take on the wire.

use std::collections::HashMap;

/// What may reach nobody but the one whom a policy names.
const WORDS: &[&str] = &[
    // Identifiers and names in cells of one.
    "P-7Q2MZEBEDEE",
    "P-4K9XPHILOMENA",
    "P-1W8CIGNATIUS",
    "L-5T3VPEREGRINE",
    "Zebedee Quillfeather",
    "Philomena Corncrake",
    "Ignatius Nightjar",
    "Peregrine Hobbydale",
    "red kite seen at dawn",
    // Values of dimensions that fewer than ten people have: their names are a fact about them.
    "Hoopoe Cut",
    "kestrel fostering",
    // Behind a mask, behind a row filter, and in secret columns of open products.
    "07700 900719",
    "07700 900118",
    "CNRY 5IN6",
    "Leonora Shearwater",
    // A product that the attacker may not know of, and what is in it.
    "quarantine_register",
    "Bartholomew Shrikeford",
    "3 Dotterel Yard",
    "Wilhelmina Godwit",
    "8 Phalarope Steps",
];

/// Whole numbers: hours, a sealed amount, a pin, a debt, and a sealed booking.
const WHOLES: &[i64] = &[98_765_431, 87_654_329, 76_543_219, 65_432_187];
/// Decimals as they read, and what they are in hundredths.
const DECIMALS: &[(&str, i64)] = &[("11937.43", 1_193_743)];
/// Binary numbers.
const FLOATS: &[(&str, f64)] = &[("7654.321098", 7_654.321_098), ("11937.43", 11_937.43)];

/// A canary that was seen, and in which form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caught {
    pub(crate) canary: String,
    pub(crate) form: &'static str,
}

#[derive(Debug)]
struct Mark {
    bytes: Vec<u8>,
    caught: Caught,
}

/// Looks for all canaries at once.
#[derive(Debug)]
pub(crate) struct Net {
    /// Forms that keep their case, by their first eight bytes.
    exact: HashMap<[u8; 8], Vec<Mark>>,
    /// Texts in lower case.
    lower: HashMap<[u8; 8], Vec<Mark>>,
}

impl Net {
    pub(crate) fn new() -> Self {
        let mut net = Self {
            exact: HashMap::new(),
            lower: HashMap::new(),
        };
        for word in WORDS {
            net.text(word, word);
        }
        for n in WHOLES {
            let name = n.to_string();
            net.text(&name, &name);
            net.number(&name, n.to_le_bytes(), "integer");
            net.number(&name, (*n as f64).to_le_bytes(), "float");
        }
        for (name, hundredths) in DECIMALS {
            net.text(name, name);
            net.number(name, hundredths.to_le_bytes(), "decimal");
        }
        for (name, value) in FLOATS {
            net.text(name, name);
            net.number(name, value.to_le_bytes(), "float");
        }
        net
    }

    /// The canaries in `bytes`, once each and form.
    pub(crate) fn catch(&self, bytes: &[u8]) -> Vec<Caught> {
        let mut caught = found(&self.exact, bytes);
        caught.extend(found(&self.lower, &bytes.to_ascii_lowercase()));
        caught.dedup();
        caught
    }

    fn text(&mut self, name: &str, text: &str) {
        let backwards: String = text.chars().rev().collect();
        self.lower(name, "text", text.as_bytes().to_vec());
        self.lower(name, "text backwards", backwards.into_bytes());
        let wide = |order: fn(u16) -> [u8; 2]| -> Vec<u8> {
            text.encode_utf16().flat_map(order).collect()
        };
        self.lower(name, "UTF-16", wide(u16::to_le_bytes));
        self.lower(name, "UTF-16", wide(u16::to_be_bytes));
        self.lower(name, "hex", hex(text.as_bytes()).into_bytes());
        for at in 0..3 {
            self.exact(name, "base64", inside_base64(text.as_bytes(), at));
        }
    }

    fn number(&mut self, name: &str, little: [u8; 8], form: &'static str) {
        let mut big = little;
        big.reverse();
        for bytes in [little, big] {
            self.exact(name, form, bytes.to_vec());
            let digits = hex(&bytes);
            self.lower(name, "hex", digits.clone().into_bytes());
            let short = digits.trim_start_matches("00");
            if short.len() >= 8 {
                self.lower(name, "hex", short.as_bytes().to_vec());
            }
        }
    }

    fn exact(&mut self, name: &str, form: &'static str, bytes: Vec<u8>) {
        add(&mut self.exact, name, form, bytes);
    }

    fn lower(&mut self, name: &str, form: &'static str, bytes: Vec<u8>) {
        add(&mut self.lower, name, form, bytes.to_ascii_lowercase());
    }
}

fn add(to: &mut HashMap<[u8; 8], Vec<Mark>>, name: &str, form: &'static str, bytes: Vec<u8>) {
    let start: [u8; 8] = bytes[..8].try_into().unwrap();
    let caught = Caught {
        canary: name.to_owned(),
        form,
    };
    to.entry(start).or_default().push(Mark { bytes, caught });
}

fn found(marks: &HashMap<[u8; 8], Vec<Mark>>, bytes: &[u8]) -> Vec<Caught> {
    let mut caught: Vec<Caught> = Vec::new();
    for (at, window) in bytes.windows(8).enumerate() {
        let start: [u8; 8] = window.try_into().unwrap();
        for mark in marks.get(&start).into_iter().flatten() {
            if bytes[at..].starts_with(&mark.bytes) && !caught.contains(&mark.caught) {
                caught.push(mark.caught.clone());
            }
        }
    }
    caught
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The characters of a base64 text that stand for `bytes` alone, when they begin `at` bytes into a group of three.
fn inside_base64(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut padded = vec![0; at];
    padded.extend(bytes);
    let whole = padded.len() * 8 / 6;
    let first = (at * 8).div_ceil(6);
    base64(&padded)[first..whole].to_vec()
}

/// Base64 without padding at its end.
pub(crate) fn base64(bytes: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    for group in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for i in 0..=group.len() {
            let six = bits >> (18 - 6 * i) & 63;
            out.push(ALPHABET[six as usize]);
        }
    }
    out
}

#[test]
fn a_canary_is_seen_in_every_form() {
    let net = Net::new();
    let seen = |bytes: &[u8]| {
        net.catch(bytes)
            .into_iter()
            .map(|c| c.form)
            .collect::<Vec<_>>()
    };
    assert_eq!(seen(b"...zebedee QUILLFEATHER..."), ["text"]);
    let backwards: String = "Zebedee Quillfeather".chars().rev().collect();
    assert_eq!(seen(backwards.as_bytes()), ["text backwards"]);
    let wide: Vec<u8> = "Hoopoe Cut"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(seen(&wide), ["UTF-16"]);
    for before in ["", "x", "xy", "xyz"] {
        let text = base64(format!("{before}Ignatius Nightjar and more").as_bytes());
        assert_eq!(seen(&text), ["base64"], "after {before:?}");
    }
    assert_eq!(seen(&98_765_431_i64.to_le_bytes()), ["integer"]);
    assert_eq!(seen(&1_193_743_i128.to_le_bytes()), ["decimal"]);
    assert_eq!(seen(&7_654.321_098_f64.to_be_bytes()), ["float"]);
    assert_eq!(seen(b"0x0000000005e30a77"), ["hex"]);
    assert_eq!(seen(b"nothing to see, 98765430"), Vec::<&str>::new());
}
