//! What a client set for its next statements: purpose, whether a part will do, and whether cells tell their status.
//!
//! A call's own headers come first. Then the session, which is found by cookie
//! (`arrow_flight_session_id`), or for clients that keep none, by credential and connection. A
//! session belongs to one principal: another's cookie finds nothing. Sessions are bounded in
//! number and forgotten when idle; a client then has to name its purpose again, never another's.

use crate::credential::Caller;
use crate::error::DoorError;
use guildhall_model::{Digest, Principal, Purpose};
use moka::future::Cache;
use ring::rand::{SecureRandom, SystemRandom};
use std::net::SocketAddr;
use std::time::Duration;
use tonic::metadata::MetadataMap;

/// Names the purpose of one call.
pub(crate) const PURPOSE_HEADER: &str = "x-guildhall-purpose";
/// Says for one call whether an answer may lack departments that are away: `on` or `off`.
pub(crate) const PARTIAL_HEADER: &str = "x-guildhall-partial";
const COOKIE: &str = "arrow_flight_session_id";

/// Statement options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) purpose: Option<Purpose>,
    pub(crate) partial: bool,
    pub(crate) cell_status: bool,
}

/// An option that a session has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    Purpose,
    Partial,
    CellStatus,
}

impl Setting {
    pub(crate) const ALL: [Self; 3] = [Self::Purpose, Self::Partial, Self::CellStatus];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Purpose => "guildhall.purpose",
            Self::Partial => "guildhall.partial",
            Self::CellStatus => "guildhall.cell_status",
        }
    }

    /// The option called `name`, with or without `guildhall.` before it.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let matches = |s: &Self| {
            let short = s.name().trim_start_matches("guildhall.");
            [s.name(), short]
                .iter()
                .any(|n| n.eq_ignore_ascii_case(name))
        };
        Self::ALL.into_iter().find(matches)
    }
}

impl Options {
    /// The option's value as text; empty when not set.
    pub(crate) fn show(&self, setting: Setting) -> String {
        match setting {
            Setting::Purpose => self
                .purpose
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            Setting::Partial => on_or_off(self.partial),
            Setting::CellStatus => on_or_off(self.cell_status),
        }
    }

    /// Changes an option; an empty purpose takes it back.
    pub(crate) fn set(&mut self, setting: Setting, value: &str) -> Result<(), DoorError> {
        match setting {
            Setting::Purpose if value.is_empty() => self.purpose = None,
            Setting::Purpose => {
                let purpose = value
                    .parse()
                    .map_err(|e| DoorError::invalid(format!("guildhall.purpose: {e}")))?;
                self.purpose = Some(purpose);
            }
            Setting::Partial => {
                self.partial = switch(value)
                    .ok_or_else(|| DoorError::invalid("guildhall.partial is `on` or `off`"))?
            }
            Setting::CellStatus => {
                self.cell_status = switch(value)
                    .ok_or_else(|| DoorError::invalid("guildhall.cell_status is `on` or `off`"))?
            }
        }
        Ok(())
    }
}

fn on_or_off(on: bool) -> String {
    if on { "on" } else { "off" }.to_owned()
}

fn switch(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "on" | "true" | "1" | "yes" => Some(true),
        "off" | "false" | "0" | "no" | "" => Some(false),
        _ => None,
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Cookie(Principal, String),
    Connection(Digest, Option<SocketAddr>),
}

/// Where one call's session is kept.
#[derive(Debug, Clone)]
pub(crate) struct SessionRef {
    cookie: Option<Key>,
    connection: Key,
}

impl SessionRef {
    /// The session of a call.
    pub(crate) fn of(caller: &Caller, metadata: &MetadataMap, from: Option<SocketAddr>) -> Self {
        let cookie = cookie(metadata).map(|c| Key::Cookie(caller.principal.clone(), c));
        Self {
            cookie,
            connection: Key::Connection(caller.id, from),
        }
    }

    /// The session that a cookie just handed out will find.
    pub(crate) fn of_cookie(caller: &Caller, id: &str) -> Self {
        let key = Key::Cookie(caller.principal.clone(), id.to_owned());
        Self {
            cookie: None,
            connection: key,
        }
    }

    /// Whether the client brought a cookie of ours.
    pub(crate) fn has_cookie(&self) -> bool {
        self.cookie.is_some()
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        self.cookie.iter().chain(std::iter::once(&self.connection))
    }
}

/// The sessions of a gateway.
#[derive(Debug)]
pub(crate) struct Sessions(Cache<Key, Options>);

impl Sessions {
    pub(crate) fn new(most: u64, idle: Duration) -> Self {
        Self(
            Cache::builder()
                .max_capacity(most)
                .time_to_idle(idle)
                .build(),
        )
    }

    /// The options of a call: its headers, then its session's.
    pub(crate) async fn options(
        &self,
        session: &SessionRef,
        metadata: &MetadataMap,
    ) -> Result<Options, DoorError> {
        let mut options = self.stored(session).await;
        for (header, setting) in [
            (PURPOSE_HEADER, Setting::Purpose),
            (PARTIAL_HEADER, Setting::Partial),
        ] {
            if let Some(value) = metadata.get(header) {
                let text = value.to_str().map_err(|_| {
                    DoorError::invalid(format!("the header {header} is not plain text"))
                })?;
                options.set(setting, text.trim())?;
            }
        }
        Ok(options)
    }

    /// What the session alone holds.
    pub(crate) async fn stored(&self, session: &SessionRef) -> Options {
        for key in session.keys() {
            if let Some(options) = self.0.get(key).await {
                return options;
            }
        }
        Options::default()
    }

    /// Keeps `options` for the session.
    pub(crate) async fn keep(&self, session: &SessionRef, options: Options) {
        for key in session.keys() {
            self.0.insert(key.clone(), options.clone()).await;
        }
    }

    /// Forgets the session; whether there was one.
    pub(crate) async fn close(&self, session: &SessionRef) -> bool {
        let mut any = false;
        for key in session.keys() {
            any |= self.0.remove(key).await.is_some();
        }
        any
    }
}

/// A session id to hand out.
#[derive(Debug)]
pub(crate) struct Cookie {
    pub(crate) id: String,
}

impl Cookie {
    /// The value of `set-cookie`.
    pub(crate) fn header(&self) -> String {
        format!("{COOKIE}={}; Path=/; Secure; HttpOnly", self.id)
    }
}

/// A fresh session id, or nothing if the system has no randomness.
pub(crate) fn fresh_cookie() -> Option<Cookie> {
    let mut id = [0; 16];
    SystemRandom::new().fill(&mut id).ok()?;
    Some(Cookie {
        id: hex::encode(id),
    })
}

fn cookie(metadata: &MetadataMap) -> Option<String> {
    metadata
        .get_all("cookie")
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, value)| *name == COOKIE && value.len() == 32)
        .map(|(_, value)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::tests::caller;

    fn metadata(pairs: &[(&'static str, &str)]) -> MetadataMap {
        let mut map = MetadataMap::new();
        for (name, value) in pairs {
            map.insert(*name, value.parse().unwrap());
        }
        map
    }

    fn sessions() -> Sessions {
        Sessions::new(10, Duration::from_secs(60))
    }

    #[tokio::test]
    async fn a_header_comes_before_the_session() {
        let (sessions, ana) = (sessions(), caller("ana", &["a", "b"]));
        let session = SessionRef::of(&ana, &MetadataMap::new(), None);
        let mut options = Options::default();
        options.set(Setting::Purpose, "a").unwrap();
        sessions.keep(&session, options).await;
        let found = sessions
            .options(&session, &metadata(&[(PURPOSE_HEADER, "b")]))
            .await
            .unwrap();
        assert_eq!(found.purpose, Some("b".parse().unwrap()));
        let found = sessions
            .options(&session, &MetadataMap::new())
            .await
            .unwrap();
        assert_eq!(found.purpose, Some("a".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_cookie_finds_nothing_for_another_principal() {
        let sessions = sessions();
        let with_cookie = metadata(&[(
            "cookie",
            "x=1; arrow_flight_session_id=0123456789abcdef0123456789abcdef",
        )]);
        let mine = SessionRef::of(&caller("ana", &[]), &with_cookie, None);
        let mut options = Options::default();
        options.set(Setting::Partial, "on").unwrap();
        sessions.keep(&mine, options.clone()).await;
        assert_eq!(sessions.stored(&mine).await, options);
        let theirs = SessionRef::of(&caller("bob", &[]), &with_cookie, None);
        assert_eq!(sessions.stored(&theirs).await, Options::default());
    }

    #[tokio::test]
    async fn two_connections_with_one_credential_have_two_sessions() {
        let (sessions, ana) = (sessions(), caller("ana", &[]));
        let one = SessionRef::of(
            &ana,
            &MetadataMap::new(),
            Some("127.0.0.1:1".parse().unwrap()),
        );
        let two = SessionRef::of(
            &ana,
            &MetadataMap::new(),
            Some("127.0.0.1:2".parse().unwrap()),
        );
        let mut options = Options::default();
        options.set(Setting::Purpose, "a").unwrap();
        sessions.keep(&one, options).await;
        assert_eq!(sessions.stored(&two).await, Options::default());
    }

    #[tokio::test]
    async fn a_closed_session_is_gone() {
        let sessions = sessions();
        let session = SessionRef::of(&caller("ana", &[]), &MetadataMap::new(), None);
        sessions
            .keep(
                &session,
                Options {
                    partial: true,
                    ..Options::default()
                },
            )
            .await;
        assert!(sessions.close(&session).await);
        assert!(!sessions.close(&session).await);
    }
}
