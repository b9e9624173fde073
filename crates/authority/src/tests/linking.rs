//! Grants for rows that meet those of another department, and the key that they meet under.

use super::*;
use guildhall_audit::{Decision, Event};
use guildhall_grant::product::Linkable;
use guildhall_keys::EphemeralIdentity;
use guildhall_model::ProductRef;

const CLEAN_ROOM: &str = "spiffe://northmoor/council/clean-room/main";
const OTHER: &str = "spiffe://northmoor/permits/node/n2";
const MEET: &str = r#"
@id("sessions-meet-permits")
permit (principal, action == Action::"LinkUnits", resource)
when {
    principal.roles.contains("analyst") && context.purpose == "planning" && resource has dpia && resource.dpia == "DPIA-1" &&
    ["northmoor.parking.sessions", "northmoor.permits.holders"].containsAll(context.linked)
};
"#;

/// A town with two departments that agree to have their rows meet.
struct Two {
    town: Town,
    other: PeerId,
}

fn linkable(with: &str) -> Option<Linkable> {
    Some(Linkable {
        identity: "vehicle".parse().unwrap(),
        dpia: "DPIA-1".parse().unwrap(),
        with: [with.parse().unwrap()].into(),
    })
}

impl Two {
    async fn new() -> Self {
        Self::with(linkable("northmoor.parking.sessions"), MEET).await
    }

    /// Where permits agree to `theirs`, under a council's policy that says `more`.
    async fn with(theirs: Option<Linkable>, more: &str) -> Self {
        let mut town = Town::new().await;
        let policy = town.dir.path().join("council.cedar");
        let text = guildhall_policy::DEFAULT_COUNCIL_POLICY;
        std::fs::write(&policy, format!("{text}\n{more}")).unwrap();
        let config = AuthorityConfig {
            policy: Some(policy),
            ..config(town.dir.path(), "northmoor")
        };
        town.state = Arc::new(State::unlock(config, town.clock.clone()).unwrap());
        let sessions = Product {
            linkable: linkable("northmoor.permits.holders"),
            ..town.product()
        };
        town.register(&sessions).await.unwrap();
        let other: PeerId = OTHER.parse().unwrap();
        let key = SigningKey::generate().unwrap();
        town.enrol(&other, Some(&key)).await.unwrap();
        let dataset = "holders";
        let opened = wire::OpenDatasetRequest {
            dataset: dataset.to_owned(),
        };
        town.state
            .open_dataset(other.clone(), &opened)
            .await
            .unwrap();
        let holders = Product {
            department: other.department.clone(),
            name: dataset.parse().unwrap(),
            node: other.clone(),
            linkable: theirs,
            columns: vec![Column {
                name: "vehicle".parse().unwrap(),
                class: ColumnClass::Identifier,
                doc: String::new(),
                reads: BTreeSet::new(),
            }],
            dimensions: vec![],
            measures: vec![],
            always_reads: BTreeSet::new(),
            ..town.product()
        };
        let product = Some(envelope::sign(&holders, &key));
        let request = wire::RegisterProductRequest { product };
        town.state
            .register_product(other.clone(), request)
            .await
            .unwrap();
        Self { town, other }
    }

    /// Fragments of both, of the question with this digest.
    fn fragments(&self, question: &Digest) -> Vec<wire::FragmentWanted> {
        let sessions =
            self.town
                .fragment("sessions", OutputClass::TokenisedRows, &["ward", "vehicle"]);
        let mut holders = self
            .town
            .fragment("holders", OutputClass::TokenisedRows, &["vehicle"]);
        holders.node = self.other.to_string();
        holders.products[0].department = self.other.department.to_string();
        let mut both = vec![sessions, holders];
        for fragment in &mut both {
            fragment.recipient = CLEAN_ROOM.to_owned();
            fragment.linked_question_digest = question.as_bytes().to_vec();
        }
        both
    }

    async fn asked(&self, fragments: Vec<wire::FragmentWanted>) -> Result<Vec<Envelope>, String> {
        let mut request = self.town.question().await;
        request.fragments = fragments;
        let issued = self
            .town
            .state
            .issue_grants(&self.town.gateway, request)
            .await;
        Ok(issued.map_err(|refusal| refusal.to_string())?.grants)
    }

    async fn linked(&self) -> Vec<Envelope> {
        self.asked(self.fragments(&Digest::of(b"how they meet")))
            .await
            .unwrap()
    }

    /// The link key that the node of sessions is lent under a grant.
    async fn lent(&self, grant: &Envelope) -> Result<Vec<u8>, String> {
        let identity = EphemeralIdentity::generate();
        let request = wire::LendKeysRequest {
            grant: Some(grant.clone()),
            fragment_digest: fragment_digest().as_bytes().to_vec(),
            ephemeral_recipient: identity.recipient().to_string(),
            keys: vec![wrapped(Some("ward"), &self.town.sessions)],
            assignment: None,
        };
        let lent = self.town.state.lend_keys(&self.town.node, request).await;
        let lent = lent.map_err(|refusal| refusal.to_string())?;
        let opened = identity.open(&lent.sealed).unwrap();
        let keys: wire::LentKeys = prost::Message::decode(opened.as_slice()).unwrap();
        Ok(keys.link_key)
    }
}

#[tokio::test]
async fn rows_meet_under_grants_that_name_all_of_them_and_their_question() {
    let two = Two::new().await;
    let grants: Vec<Grant> = two.linked().await.iter().map(read).collect();
    let linkage = grants[0].linkage.clone().unwrap();
    assert_eq!(grants[1].linkage.as_ref(), Some(&linkage));
    assert_eq!(linkage.question, Digest::of(b"how they meet"));
    let names = ["northmoor.parking.sessions", "northmoor.permits.holders"];
    let names = names.map(|n| n.parse::<ProductRef>().unwrap());
    assert_eq!(linkage.products, names.into());
    let entry = two.town.log().pop().unwrap();
    assert_eq!(
        (entry.event, entry.decision),
        (Event::IssueGrant, Decision::Permit)
    );
    assert_eq!(entry.linkage, Some(linkage.id.clone()));
    assert_eq!(entry.policies, ["sessions-meet-permits"]);

    let again: Vec<Grant> = two.linked().await.iter().map(read).collect();
    assert_ne!(again[0].linkage.as_ref().unwrap().id, linkage.id);
}

#[tokio::test]
async fn each_linkage_has_a_key_of_its_own_that_other_grants_do_not_bring() {
    let two = Two::new().await;
    let (first, second) = (two.linked().await, two.linked().await);
    let key = two.lent(&first[0]).await.unwrap();
    assert_eq!(key.len(), 32);
    assert_ne!(two.lent(&second[0]).await.unwrap(), key);
    let entry = two.town.log().pop().unwrap();
    assert_eq!(
        entry.linkage,
        read::<Grant>(&second[0]).linkage.map(|l| l.id)
    );
    let plain = two.town.grant().await;
    assert!(two.lent(&plain).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_key_is_gone_with_the_authority_that_made_it() {
    let mut two = Two::new().await;
    let grants = two.linked().await;
    let config = config(two.town.dir.path(), "northmoor");
    two.town.state = Arc::new(State::unlock(config, two.town.clock.clone()).unwrap());
    let refused = two.lent(&grants[0]).await.unwrap_err();
    assert!(refused.contains("ask the question again"), "{refused}");
}

#[tokio::test]
async fn rows_meet_only_where_both_departments_and_the_council_say_so() {
    let asked = async |two: Two| {
        let fragments = two.fragments(&Digest::of(b"how they meet"));
        two.asked(fragments).await.unwrap_err()
    };
    let one_sided = linkable("northmoor.other.thing");
    let refused = asked(Two::with(one_sided, MEET).await).await;
    assert!(
        refused.contains("are not linked with those of"),
        "{refused}"
    );
    let not_at_all = asked(Two::with(None, MEET).await).await;
    assert!(
        not_at_all.contains("not linked with any other"),
        "{not_at_all}"
    );
    let no_policy = asked(Two::with(linkable("northmoor.parking.sessions"), "").await).await;
    assert!(no_policy.contains("nothing-permits-it"), "{no_policy}");
}

#[tokio::test]
async fn a_linkage_is_asked_for_whole_and_for_the_councils_own_clean_room() {
    let two = Two::new().await;
    let question = Digest::of(b"how they meet");
    let changed = async |change: fn(&mut Vec<wire::FragmentWanted>)| {
        let mut fragments = two.fragments(&question);
        change(&mut fragments);
        two.asked(fragments).await.unwrap_err()
    };
    let alone = changed(|f| drop(f.pop())).await;
    assert!(alone.contains("rows of 2 to 4 products meet"), "{alone}");
    let apart = changed(|f| f[1].linked_question_digest = vec![7; 32]).await;
    assert!(apart.contains("rows of 2 to 4 products meet"), "{apart}");
    let without = changed(|f| f[0].linked_question_digest.clear()).await;
    assert!(without.contains("not 32 bytes"), "{without}");
    let twice = changed(|f| f[1] = f[0].clone()).await;
    assert!(twice.contains("linked with themselves"), "{twice}");
    let gateway = changed(|f| f[0].recipient = GATEWAY.to_owned()).await;
    assert!(
        gateway.contains("the council's own clean room"),
        "{gateway}"
    );
    let theirs = changed(|f| f[0].recipient = CLEAN_ROOM.replace("northmoor", "southmoor")).await;
    assert!(theirs.contains("the council's own clean room"), "{theirs}");
    let cells =
        changed(|f| f[0].output_class = output_to_wire(OutputClass::ReleasedCells).into()).await;
    assert!(cells.contains("tokenised rows alone"), "{cells}");
}
