//! Charging a free question to a privacy budget, before a node answers it.
//!
//! The grant is verified again, as for a loan of keys. Then one transaction reads what is
//! spent, charges, and appends the entry; the node hears of it once that is on disk. Nothing is
//! given back, whatever becomes of the answer: the same question may be asked again for nothing.

use crate::ledger::{Charge, Charged, LedgerName};
use crate::log;
use crate::presented;
use crate::refusal::Refusal;
use crate::register;
use crate::shelf::Register;
use crate::state::State;
use guildhall_audit::{Decision, Entry, Event, ProductSeen, Reason};
use guildhall_grant::VerifiedGrant;
use guildhall_grant::product::NanoRho;
use guildhall_model::{Digest, FragmentDigest, OutputClass, PeerId, ProductName, Timestamp};
use guildhall_proto::authority::v1 as wire;

/// A request to charge a question, parsed.
#[derive(Debug)]
struct Wanted {
    fragment: FragmentDigest,
    product: ProductName,
    amount: NanoRho,
    question: Digest,
}

impl Wanted {
    fn parse(request: &wire::DebitRequest) -> Result<Self, Refusal> {
        let digest = |field, bytes: &[u8]| {
            Digest::from_bytes(bytes).ok_or_else(|| Refusal::invalid(field, "not 32 bytes"))
        };
        if request.nano_rho == 0 {
            return Err(Refusal::invalid("nano_rho", "a question costs something"));
        }
        Ok(Self {
            fragment: digest("fragment_digest", &request.fragment_digest)?,
            product: request
                .product
                .parse()
                .map_err(|e| Refusal::invalid("product", e))?,
            amount: NanoRho::new(request.nano_rho),
            question: digest("question_digest", &request.question_digest)?,
        })
    }
}

impl State {
    /// Charges one question to the budget that its product and purpose share.
    pub(crate) async fn debit(
        &self,
        node: &PeerId,
        request: wire::DebitRequest,
    ) -> Result<wire::DebitResponse, Refusal> {
        let now = self.clock.now();
        let mut entry = Entry {
            peer: Some(node.clone()),
            ..Entry::new(Event::Debit, Decision::Forbid)
        };
        let charged = self.charge(node, &request, now, &mut entry).await;
        if let Err(refusal) = &charged {
            entry.reason = Some(Reason::new(refusal.name()));
            self.record(entry, now).await?;
        }
        let charged = charged?;
        Ok(wire::DebitResponse {
            charged_nano_rho: charged.amount.get(),
            already_paid: charged.amount == NanoRho::default(),
            remaining_nano_rho: charged.remaining.get(),
            period_end_us: charged.renews.as_micros(),
        })
    }

    async fn charge(
        &self,
        node: &PeerId,
        request: &wire::DebitRequest,
        now: Timestamp,
        entry: &mut Entry,
    ) -> Result<Charged, Refusal> {
        let wanted = Wanted::parse(request)?;
        entry.fragment = Some(wanted.fragment);
        entry.digest = Some(wanted.question);
        let grant = self.verify_again(node, request.grant.as_ref(), &wanted.fragment, now)?;
        entry.grant = Some(grant.id.clone());
        entry.principal = Some(grant.principal.clone());
        entry.purpose = Some(grant.purpose.clone());
        entry.query = Some(grant.query.clone());
        loop {
            self.check_current(node, &grant, now)?;
            let register = self.register()?;
            let charge = payable(&register, node, &grant, &wanted, now, entry)?;
            if let Some(charged) = self.put(register.revision, charge, entry, now).await? {
                return Ok(charged);
            }
        }
    }

    /// Makes the charge and appends its entry; `None` if the register has changed since
    /// `revision`, by which the charge was weighed.
    // Invariant: the node hears of a charge after it and its entry are on disk.
    async fn put(
        &self,
        revision: i64,
        charge: Charge,
        entry: &Entry,
        now: Timestamp,
    ) -> Result<Option<Charged>, Refusal> {
        let mut record = Entry {
            decision: Decision::Permit,
            ..entry.clone()
        };
        self.db
            .write(move |tx| {
                if register::revision(tx)? != revision {
                    return Ok(None);
                }
                let charged = charge.make(tx, now)?;
                record.charge = charged.amount.get();
                record.remaining = Some(charged.remaining.get());
                log::append(tx, &record, now)?;
                Ok::<_, Refusal>(Some(charged))
            })
            .await
    }
}

/// The charge, if the grant covers it and the product has a budget that one question may take
/// so much of.
fn payable(
    register: &Register,
    node: &PeerId,
    grant: &VerifiedGrant,
    wanted: &Wanted,
    now: Timestamp,
    entry: &mut Entry,
) -> Result<Charge, Refusal> {
    if grant.output != OutputClass::ReleasedCells {
        return Err(Refusal::NotCovered("released cells".to_owned()));
    }
    let granted = grant
        .products
        .iter()
        .find(|p| p.department == node.department && p.product == wanted.product)
        .ok_or_else(|| Refusal::NotCovered(format!("product `{}`", wanted.product)))?;
    let product = presented::unchanged(register, node, granted)?;
    let reference = product.product_ref();
    entry.products = vec![ProductSeen::new(
        &reference,
        product.version,
        granted.columns.clone(),
    )];
    let no_budget = || Refusal::Class {
        product: reference.clone(),
        why: format!("it has no privacy budget for `{}`", grant.purpose),
    };
    let budget = product.budget(&grant.purpose).ok_or_else(no_budget)?;
    let ledger = LedgerName::of(&product.department, budget);
    let terms = ledger.terms(register, now).ok_or_else(no_budget)?;
    entry.subject = Some(ledger.to_string());
    if wanted.amount > budget.per_query {
        let why = format!("one question costs at most {}", budget.per_query.get());
        return Err(Refusal::invalid("nano_rho", why));
    }
    Ok(Charge {
        ledger,
        terms,
        product: reference,
        grant: grant.id.clone(),
        question: wanted.question,
        amount: wanted.amount,
    })
}
