//! Keys that rows meet under: one for each linkage, for its nodes alone, in memory until its grants end.
//!
//! A key is 32 random bytes that are made when the grants are issued. Nothing else is made with it and nothing is made of
//! it, so that who has the tokens of two linkages has nothing in common to compare. It is never on disk: after a restart
//! no key of before is lent, and a question whose nodes would have had two different ones fails.

use crate::refusal::Refusal;
use guildhall_model::{LinkageId, Timestamp};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use zeroize::Zeroizing;

/// Keys that are kept at once: far more than there are questions in the life of a grant.
const MOST: usize = 65_536;

/// Bytes of a key.
pub(crate) const LENGTH: usize = 32;

pub(crate) type LinkKey = Zeroizing<[u8; LENGTH]>;

/// The keys of linkages whose grants have not ended. `Debug` shows nothing.
#[derive(Default)]
pub(crate) struct Links(Mutex<HashMap<LinkageId, (Timestamp, LinkKey)>>);

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Links")
    }
}

impl Links {
    /// Makes the key of a new linkage, whose grants end at `expires`.
    pub(crate) fn open(
        &self,
        id: &LinkageId,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let mut key = LinkKey::new([0; LENGTH]);
        let random = || Refusal::Internal("randomness".to_owned());
        SystemRandom::new()
            .fill(key.as_mut_slice())
            .map_err(|_| random())?;
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (expires, _)| now < *expires);
        if kept.len() >= MOST {
            let why =
                "more questions link rows at once than can be answered; ask again in a minute";
            return Err(Refusal::Precondition(why.to_owned()));
        }
        kept.insert(id.clone(), (expires, key));
        Ok(())
    }

    /// The key of a linkage whose grants have not ended.
    pub(crate) fn key(&self, id: &LinkageId, now: Timestamp) -> Result<LinkKey, Refusal> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.get(id).filter(|(expires, _)| now < *expires);
        let key = known.map(|(_, key)| key.clone());
        key.ok_or_else(|| {
            Refusal::Precondition(
                "the key that these rows would meet under is gone, since the authority was started anew; ask the \
                 question again"
                    .to_owned(),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn id(name: &str) -> LinkageId {
        name.parse().unwrap()
    }

    #[test]
    fn a_linkage_has_one_key_of_its_own_until_its_grants_end() {
        let (links, start) = (Links::default(), Timestamp::from_micros(1_000));
        let end = start.after(Duration::from_secs(300));
        links.open(&id("l-1"), end, start).unwrap();
        links.open(&id("l-2"), end, start).unwrap();
        let first = links.key(&id("l-1"), start).unwrap();
        assert_eq!(first, links.key(&id("l-1"), start).unwrap());
        assert_ne!(first, links.key(&id("l-2"), start).unwrap());
        assert!(links.key(&id("l-3"), start).is_err());
        assert!(links.key(&id("l-1"), end).is_err());
        // What has ended is forgotten, not only refused.
        links
            .open(&id("l-3"), end.after(Duration::from_secs(1)), end)
            .unwrap();
        assert_eq!(links.0.lock().unwrap().len(), 1);
    }
}
