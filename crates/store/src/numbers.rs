//! Numbers as people type them: `£1,234.50`, `(12.00)`, `1 234`, `-£3`.

use std::borrow::Cow;

/// Rewrites a number as digits with at most a leading `-`, one `.` and an exponent.
///
/// Accepts a currency sign, thousands separators where they belong (comma, space,
/// no-break or thin space), accounting brackets and a trailing minus. `None` if the text
/// is none of these; `1,23` is a slip of somebody's and no number.
pub(crate) fn plain(text: &str) -> Option<Cow<'_, str>> {
    let is_plain = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'e' | b'E');
    if !text.is_empty() && !text.ends_with('-') && text.bytes().all(is_plain) {
        return Some(Cow::Borrowed(text));
    }
    let mut rest = text.trim();
    let mut negative = false;
    if let Some(inner) = rest.strip_prefix('(').and_then(|r| r.strip_suffix(')')) {
        negative = true;
        rest = inner.trim();
    }
    let mut signs = 0;
    let mut currencies = 0;
    loop {
        let before = rest;
        if let Some(r) = rest.strip_prefix(['-', '\u{2212}']) {
            (negative, signs, rest) = (!negative, signs + 1, r.trim_start());
        } else if let Some(r) = rest.strip_prefix('+') {
            (signs, rest) = (signs + 1, r.trim_start());
        } else if let Some(r) = rest.strip_prefix(['£', '$', '€']) {
            (currencies, rest) = (currencies + 1, r.trim_start());
        } else if let Some(r) = rest.strip_suffix('-') {
            (negative, signs, rest) = (!negative, signs + 1, r.trim_end());
        } else if let Some(r) = rest.strip_suffix('€') {
            (currencies, rest) = (currencies + 1, r.trim_end());
        }
        if rest == before {
            break;
        }
    }
    if signs > 1 || currencies > 1 {
        return None;
    }
    let (whole, fraction) = rest
        .split_once('.')
        .map_or((rest, None), |(w, f)| (w, Some(f)));
    let mut out = String::with_capacity(rest.len() + 1);
    if negative {
        out.push('-');
    }
    push_whole(whole, &mut out)?;
    if let Some(fraction) = fraction {
        if !fraction.bytes().all(|b| b.is_ascii_digit())
            || (whole.is_empty() && fraction.is_empty())
        {
            return None;
        }
        out.push('.');
        out.push_str(fraction);
    } else if whole.is_empty() {
        return None;
    }
    Some(Cow::Owned(out))
}

/// Whole digits, with or without separators before each group of three.
fn push_whole(whole: &str, out: &mut String) -> Option<()> {
    let is_separator = |c: char| matches!(c, ',' | ' ' | '\u{a0}' | '\u{2009}' | '\u{202f}');
    let mut groups = whole.split(is_separator);
    let first = groups.next()?;
    if !first.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    out.push_str(first);
    for group in groups {
        let sound = !first.is_empty() && first.len() <= 3 && group.len() == 3;
        if !sound || !group.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        out.push_str(group);
    }
    Some(())
}

/// A whole number, `None` unless it is one; `12.00` is.
pub(crate) fn integer(text: &str) -> Option<Result<i64, Overflow>> {
    let plain = plain(text)?;
    if let Ok(n) = plain.parse::<i64>() {
        return Some(Ok(n));
    }
    let whole = match plain.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|b| b == b'0') => whole,
        Some(_) => return None,
        None => &plain,
    };
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(whole.parse().map_err(|_| Overflow))
}

/// A number of the right form that its type cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overflow;

/// A finite binary number.
pub(crate) fn float(text: &str) -> Option<f64> {
    plain(text)?.parse::<f64>().ok().filter(|n| n.is_finite())
}

/// Why a text is not a decimal of a given precision and scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecimalFault {
    NotANumber,
    TooManyPlaces,
    TooManyDigits,
}

/// An exact decimal, as its unscaled value. Never rounds: places beyond `scale` must be 0.
pub(crate) fn decimal(text: &str, precision: u8, scale: u8) -> Result<i128, DecimalFault> {
    let plain = plain(text).ok_or(DecimalFault::NotANumber)?;
    let (negative, digits) = match plain.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, plain.as_ref()),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
        return Err(DecimalFault::NotANumber);
    }
    let scale = usize::from(scale);
    let kept = &fraction[..fraction.len().min(scale)];
    if fraction[kept.len()..].bytes().any(|b| b != b'0') {
        return Err(DecimalFault::TooManyPlaces);
    }
    let mut value: i128 = 0;
    let zeros = std::iter::repeat_n(b'0', scale - kept.len());
    for digit in whole.bytes().chain(kept.bytes()).chain(zeros) {
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(i128::from(digit - b'0')))
            .ok_or(DecimalFault::TooManyDigits)?;
    }
    if value
        >= 10_i128
            .checked_pow(u32::from(precision))
            .unwrap_or(i128::MAX)
    {
        return Err(DecimalFault::TooManyDigits);
    }
    Ok(if negative { -value } else { value })
}

/// How many places after the point a number is written with.
pub(crate) fn places(text: &str) -> Option<usize> {
    let plain = plain(text)?;
    plain.parse::<f64>().ok()?;
    if plain.contains(['e', 'E']) {
        return None;
    }
    Some(plain.split_once('.').map_or(0, |(_, f)| f.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_and_thousands_are_numbers() {
        for (text, want) in [
            ("12", "12"),
            ("-12.5", "-12.5"),
            ("£1,234.50", "1234.50"),
            ("-£3", "-3"),
            ("£-3", "-3"),
            ("(12.00)", "-12.00"),
            ("12-", "-12"),
            ("1 234 567", "1234567"),
            ("1\u{a0}234", "1234"),
            ("+7", "7"),
            (".5", ".5"),
        ] {
            assert_eq!(plain(text).as_deref(), Some(want), "{text}");
        }
    }

    #[test]
    fn separators_in_the_wrong_place_are_no_number() {
        for text in [
            "1,23", "1234,567", ",123", "12,345,6", "--1", "££1", "abc", "£", "1.2.3", "12 March",
        ] {
            assert!(float(text).is_none(), "{text}");
        }
    }

    #[test]
    fn an_integer_may_end_in_zeros_but_not_in_a_fraction() {
        assert_eq!(integer("1,200.00"), Some(Ok(1200)));
        assert_eq!(integer("12.5"), None);
        assert_eq!(integer("99999999999999999999"), Some(Err(Overflow)));
        assert_eq!(integer("2e3"), None);
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        assert_eq!(decimal("£1,234.5", 12, 2), Ok(123_450));
        assert_eq!(decimal("-0.01", 12, 2), Ok(-1));
        assert_eq!(decimal("1.2300", 12, 2), Ok(123));
        assert_eq!(decimal("1.234", 12, 2), Err(DecimalFault::TooManyPlaces));
        assert_eq!(decimal("12345", 4, 0), Err(DecimalFault::TooManyDigits));
        assert_eq!(decimal("1e5", 12, 2), Err(DecimalFault::NotANumber));
    }
}
