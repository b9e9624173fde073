//! File keys: what Parquet modular encryption uses, derived from a column key.

use crate::ColumnKey;
use ring::hmac;
use zeroize::Zeroizing;

/// The length of a file key: AES-128, as AES_GCM_V1 takes it.
pub const FILE_KEY_BYTES: usize = 16;

const SALT: &[u8] = b"guildhall file key v1";

/// The key of `column` (empty for the footer) in the file `file_id`.
///
/// HKDF-SHA256 over the column key; `info` holds both names, each with its length before it, so
/// that no two pairs of names give the same key.
#[must_use]
pub fn file_key(key: &ColumnKey, file_id: &str, column: &str) -> Zeroizing<[u8; FILE_KEY_BYTES]> {
    let block = hkdf_block(SALT, key.as_bytes(), &info(file_id, column));
    let mut out = Zeroizing::new([0; FILE_KEY_BYTES]);
    out.copy_from_slice(&block[..FILE_KEY_BYTES]);
    out
}

fn info(file_id: &str, column: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + file_id.len() + column.len());
    for part in [file_id, column] {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part.as_bytes());
    }
    out
}

/// The first 32 bytes of HKDF-SHA256 (RFC 5869). One block needs no length check, so it cannot
/// fail.
fn hkdf_block(salt: &[u8], ikm: &[u8], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let prk = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, salt), ikm);
    let mut expand = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, prk.as_ref()));
    expand.update(info);
    expand.update(&[1]);
    let mut out = Zeroizing::new([0; 32]);
    out.copy_from_slice(expand.sign().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ring::hkdf;

    fn key() -> ColumnKey {
        ColumnKey::from_bytes(&[7; 32]).unwrap()
    }

    #[test]
    fn rfc_5869_test_cases_hold() {
        // Test cases 1 to 3 of appendix A: IKM, salt, info, the first 32 bytes of OKM.
        let first = |n: usize, from: u8| {
            (0..n)
                .map(|i| from + u8::try_from(i).unwrap())
                .collect::<Vec<u8>>()
        };
        let cases = [
            (
                vec![0x0b; 22],
                first(13, 0),
                first(10, 0xf0),
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf",
            ),
            (
                first(80, 0),
                first(80, 0x60),
                first(80, 0xb0),
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c",
            ),
            (
                vec![0x0b; 22],
                vec![],
                vec![],
                "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d",
            ),
        ];
        for (ikm, salt, info, okm) in cases {
            assert_eq!(hex::encode(*hkdf_block(&salt, &ikm, &info)), okm);
        }
    }

    #[test]
    fn the_derivation_is_pinned() {
        // A change here makes every file at rest unreadable.
        assert_eq!(
            hex::encode(*file_key(&key(), "part-1", "postcode")),
            "6e463b1d0f52f2b8049b65e4089ad728"
        );
    }

    #[test]
    fn the_lengths_keep_neighbouring_names_apart() {
        assert_ne!(*file_key(&key(), "ab", "c"), *file_key(&key(), "a", "bc"));
        assert_ne!(*file_key(&key(), "a", ""), *file_key(&key(), "", "a"));
    }

    proptest! {
        #[test]
        fn different_names_give_different_info(
            a in ".{0,8}", b in ".{0,8}", c in ".{0,8}", d in ".{0,8}",
        ) {
            prop_assert_eq!(info(&a, &b) == info(&c, &d), a == c && b == d);
        }

        #[test]
        fn a_shifted_boundary_gives_another_info(text in "[a-c\0]{1,12}", i in 0usize..12, j in 0usize..12) {
            let (i, j) = (i % (text.len() + 1), j % (text.len() + 1));
            let same = info(&text[..i], &text[i..]) == info(&text[..j], &text[j..]);
            prop_assert_eq!(same, i == j);
        }

        #[test]
        fn one_block_equals_ring_s_hkdf(
            salt in prop::collection::vec(any::<u8>(), 0..80),
            ikm in prop::collection::vec(any::<u8>(), 0..80),
            info in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut out = [0; 32];
            hkdf::Salt::new(hkdf::HKDF_SHA256, &salt)
                .extract(&ikm)
                .expand(&[&info], hkdf::HKDF_SHA256)
                .unwrap()
                .fill(&mut out)
                .unwrap();
            prop_assert_eq!(*hkdf_block(&salt, &ikm, &info), out);
        }
    }
}
