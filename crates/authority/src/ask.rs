//! What gateways ask: to sign a principal in, what it may see, and for grants.

use crate::accounts;
use crate::credential::Certified;
use crate::grants::{self, Asked, Deciding, FragmentAsked};
use crate::log;
use crate::policies::InForce;
use crate::refusal::Refusal;
use crate::shelf::Register;
use crate::state::State;
use guildhall_audit::{Decision, Entry, Event, Reason};
use guildhall_grant::product::Product;
use guildhall_grant::{AccessToken, envelope, principal_to_wire};
use guildhall_model::{
    DepartmentName, Digest, PeerId, Principal, PrincipalName, ProductName, Purpose, Timestamp,
};
use guildhall_policy::Asker;
use guildhall_proto::authority::v1 as wire;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// More fragments than any plan has.
const MAX_FRAGMENTS: usize = 256;

impl State {
    /// Trades a password, or a certificate that the gateway saw, for an access token.
    // Invariant: a token that a certificate was traded for does not outlive the certificate.
    pub(crate) async fn sign_in(
        &self,
        gateway: &PeerId,
        request: wire::SignInRequest,
    ) -> Result<wire::SignInResponse, Refusal> {
        let now = self.clock.now();
        let longest = now.after(self.config.token_life());
        let (named, asker, expires) = match &request.certificate {
            Some(chain) => match self.believing(now).certificate(chain, gateway) {
                Ok(Certified { asker, expires }) => (None, Ok(asker), longest.min(expires)),
                Err(refusal) => (None, Err(refusal), longest),
            },
            None => {
                let (named, asker) = self
                    .password(gateway, &request.account, request.password, now)
                    .await?;
                (named, asker, longest)
            }
        };
        let mut entry = Entry {
            peer: Some(gateway.clone()),
            principal: named,
            ..Entry::new(Event::SignIn, Decision::Forbid)
        };
        let asker = match asker {
            Ok(asker) => asker,
            Err(refusal) => {
                entry.reason = Some(Reason::new(refusal.name()));
                self.record(entry, now).await?;
                return Err(refusal);
            }
        };
        let token = token(&asker, gateway, now, expires)?;
        entry.decision = Decision::Permit;
        entry.principal = Some(asker.principal);
        self.record(entry, now).await?;
        Ok(wire::SignInResponse {
            token: Some(envelope::sign(&token, &self.signing)),
        })
    }

    /// Whether the password is the account's. The principal is named only if the account exists:
    /// what was typed in its place may be anything, a password too.
    pub(crate) async fn password(
        &self,
        gateway: &PeerId,
        account: &str,
        password: String,
        now: Timestamp,
    ) -> Result<(Option<Principal>, Result<Asker, Refusal>), Refusal> {
        let Ok(name) = account.parse::<PrincipalName>() else {
            return Ok((None, Err(Refusal::SignIn)));
        };
        let found = self
            .db
            .read(|c| accounts::find(c, self.council(), &name).map_err(Refusal::from))?;
        let named = found.as_ref().map(|f| f.asker.principal.clone());
        if let Err(refusal) = self.attempts.may_try(account, gateway, now) {
            return Ok((named, Err(refusal)));
        }
        let _permit = self
            .hashing
            .acquire()
            .await
            .map_err(|e| Refusal::internal(&e))?;
        let checked = tokio::task::spawn_blocking(move || accounts::check(found, &password))
            .await
            .map_err(|e| Refusal::internal(&e))?;
        self.attempts.note(account, gateway, checked.is_ok(), now);
        Ok((named, checked))
    }

    /// The products that a credential may see for a purpose, or for any it holds.
    ///
    /// Not put on record: it says what is offered, and nothing of what is held.
    pub(crate) fn catalogue(
        &self,
        gateway: &PeerId,
        request: wire::CatalogueRequest,
    ) -> Result<wire::CatalogueResponse, Refusal> {
        let now = self.clock.now();
        let asker = self.believing(now).asker(request.credential, gateway)?;
        let (register, policy) = (self.register()?, self.policies.in_force());
        let deciding = self.deciding(&register, &policy, gateway, now);
        let held = deciding.purposes(&asker);
        let asked = match request.purpose.as_str() {
            "" => held.clone(),
            named => {
                let purpose: Purpose = named.parse().map_err(|e| Refusal::invalid("purpose", e))?;
                deciding.check_purpose(&asker, &purpose)?;
                BTreeSet::from([purpose])
            }
        };
        let principal = principal_to_wire(&asker.principal);
        let seen = self.seen(&deciding, policy.digest, asker, asked);
        let products = seen
            .iter()
            .filter_map(|(department, name)| register.product(department, name))
            .map(|r| wire::CatalogueEntry {
                product: r.envelope.clone(),
                address: r.address.clone().unwrap_or_default(),
            })
            .collect();
        Ok(wire::CatalogueResponse {
            principal: Some(principal),
            purposes: held.iter().map(ToString::to_string).collect(),
            products,
        })
    }

    /// The products that `asker` may see for a purpose that it may name.
    pub(crate) fn seen_for(
        &self,
        register: &Register,
        gateway: &PeerId,
        asker: Asker,
        purpose: &Purpose,
        now: Timestamp,
    ) -> Result<Seen, Refusal> {
        let policy = self.policies.in_force();
        let deciding = self.deciding(register, &policy, gateway, now);
        deciding.check_purpose(&asker, purpose)?;
        let asked = BTreeSet::from([purpose.clone()]);
        Ok(self.seen(&deciding, policy.digest, asker, asked))
    }

    /// The products that `asker` may see for any of the purposes `asked`.
    fn seen(
        &self,
        deciding: &Deciding<'_>,
        policy: Digest,
        asker: Asker,
        asked: BTreeSet<Purpose>,
    ) -> Seen {
        let gateway = deciding.gateway.clone();
        let key = Seer {
            asker,
            asked,
            gateway,
        };
        let at = (deciding.register.revision, policy);
        self.answers.kept(at, &key).unwrap_or_else(|| {
            let sees = |p: &Product| key.asked.iter().any(|w| deciding.sees(&key.asker, p, w));
            let seen: Seen = deciding
                .register
                .products()
                .map(|r| &r.product)
                .filter(|p| sees(p))
                .map(|p| (p.department.clone(), p.name.clone()))
                .collect();
            self.answers.keep(at, key, Arc::clone(&seen));
            seen
        })
    }

    /// A grant for each fragment of a query, or none.
    pub(crate) async fn issue_grants(
        &self,
        gateway: &PeerId,
        request: wire::IssueGrantsRequest,
    ) -> Result<wire::IssueGrantsResponse, Refusal> {
        let now = self.clock.now();
        let mut asked = None;
        let decided = self.decide(gateway, request, now, &mut asked);
        let decided = decided.and_then(|all| self.with_links(all, now));
        let entries = match &decided {
            Ok(all) => all.iter().map(grants::issued).collect(),
            Err(refusal) => vec![grants::refused(
                self.council(),
                gateway,
                asked.as_ref(),
                refusal,
            )],
        };
        // Invariant: nothing is signed before its entry is on disk.
        self.db
            .write(move |tx| {
                entries
                    .iter()
                    .try_for_each(|e| log::append(tx, e, now))
                    .map_err(Refusal::from)
            })
            .await?;
        let grants = decided?
            .iter()
            .map(|i| envelope::sign(&i.grant, &self.signing))
            .collect();
        Ok(wire::IssueGrantsResponse { grants })
    }

    /// The same grants, once the keys of their linkages are there.
    fn with_links(
        &self,
        all: Vec<grants::Issued>,
        now: Timestamp,
    ) -> Result<Vec<grants::Issued>, Refusal> {
        let linkages = all.iter().filter_map(|issued| {
            let linkage = issued.grant.linkage.as_ref();
            linkage.map(|l| (&l.id, issued.grant.expires))
        });
        let linkages: BTreeMap<_, _> = linkages.collect();
        for (id, expires) in linkages {
            self.links.open(id, expires, now)?;
        }
        Ok(all)
    }

    fn decide(
        &self,
        gateway: &PeerId,
        request: wire::IssueGrantsRequest,
        now: Timestamp,
        asked: &mut Option<Asked>,
    ) -> Result<Vec<grants::Issued>, Refusal> {
        if request.fragments.is_empty() || request.fragments.len() > MAX_FRAGMENTS {
            let why = format!("between 1 and {MAX_FRAGMENTS} are granted at once");
            return Err(Refusal::invalid("fragments", why));
        }
        let asker = self.believing(now).asker(request.credential, gateway)?;
        let asked = &*asked.insert(Asked {
            asker,
            council: self.council().clone(),
            purpose: request
                .purpose
                .parse()
                .map_err(|e| Refusal::invalid("purpose", e))?,
            query: request
                .query_id
                .parse()
                .map_err(|e| Refusal::invalid("query_id", e))?,
            fragments: request
                .fragments
                .iter()
                .map(FragmentAsked::parse)
                .collect::<Result<_, _>>()?,
        });
        let (register, policy) = (self.register()?, self.policies.in_force());
        self.deciding(&register, &policy, gateway, now)
            .grants(asked)
    }

    pub(crate) fn deciding<'a>(
        &'a self,
        register: &'a Register,
        policy: &'a InForce,
        gateway: &'a PeerId,
        now: Timestamp,
    ) -> Deciding<'a> {
        Deciding {
            council: self.council(),
            policies: &policy.policies,
            register,
            gateway,
            now,
            life: self.config.grant_life(),
        }
    }
}

fn token(
    asker: &Asker,
    gateway: &PeerId,
    now: Timestamp,
    expires: Timestamp,
) -> Result<AccessToken, Refusal> {
    Ok(AccessToken {
        id: grants::random_id("t")?,
        principal: asker.principal.clone(),
        roles: asker.roles.iter().cloned().collect(),
        purposes: asker.purposes.iter().cloned().collect(),
        gateway: gateway.clone(),
        not_before: now,
        expires,
    })
}

/// Askers whose catalogue is kept.
const KEPT: usize = 512;

/// Whose catalogue it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Seer {
    asker: Asker,
    asked: BTreeSet<Purpose>,
    gateway: PeerId,
}

/// Products, by department and name.
pub(crate) type Seen = Arc<[(DepartmentName, ProductName)]>;

/// Catalogues that were judged under the register and the policy that are in force, since
/// every query begins with one.
#[derive(Debug, Default)]
pub(crate) struct Answers(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    at: Option<(i64, Digest)>,
    seen: HashMap<Seer, Seen>,
}

impl Answers {
    fn kept(&self, at: (i64, Digest), key: &Seer) -> Option<Seen> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.at == Some(at))
            .then(|| kept.seen.get(key).cloned())
            .flatten()
    }

    fn keep(&self, at: (i64, Digest), key: Seer, seen: Seen) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.at != Some(at) || kept.seen.len() >= KEPT {
            kept.at = Some(at);
            kept.seen.clear();
        }
        kept.seen.insert(key, seen);
    }
}
