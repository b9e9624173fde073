//! Roles in the attacker's hands: gateways, nodes and a neighbour who ask for what is not theirs.
//!
//! Behind most of these checks another one stands. So each attack is turned away only if it is by the check that is
//! meant for it, known by its words; and what two must refuse alike is compared.

use crate::judge::{Finding, Scene};
use crate::rogue::{Fragment, RogueGateway, RogueNode, no, schema_of, send_as};
use crate::table::fill;
use datafusion::logical_expr::LogicalPlan;
use guildhall_authority::Admin;
use guildhall_client::{AuthorityClient, ClientError, EnrolmentClient};
use guildhall_grant::product::Product;
use guildhall_grant::{Grant, SigningKey, envelope};
use guildhall_identity::{CertificateAuthority, Dialer, Identity, new_key_and_csr};
use guildhall_model::OutputClass::{self, OpenRows, ReleasedCells};
use guildhall_model::{Clock as _, CouncilName, Digest, Purpose, SystemClock};
use guildhall_plan::adhoc::{Lane, lane};
use guildhall_proto::authority::v1::{DebitRequest, FragmentWanted, credential};
use guildhall_proto::envelope::v1::Envelope;
use guildhall_testkit::node;
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;

/// What a node says to whoever holds a grant that is for something else, and to whoever made one.
const NOT_FOR: &str = "the grant is not for this node, fragment and recipient";
const NOT_FROM: &str = "the grant is not from this node's authority";
const WARDS: &str = "SELECT ward, count(*) AS n FROM {c} GROUP BY ward";

/// Plans that a node alone turns away: the authority grants all that they read, for cells or for rows.
const PLANS: &[(&str, &str, OutputClass, &str)] = &[
    (
        "an identifier computed with",
        "SELECT upper(holder) AS h FROM {p}",
        ReleasedCells,
        "may be counted, but not computed with",
    ),
    (
        "an identifier as a row, under a grant for cells",
        "SELECT holder FROM {p}",
        ReleasedCells,
        "`identifier`, which leaves in no row",
    ),
    (
        "open rows under a grant for cells",
        "SELECT ward, population FROM {w}",
        ReleasedCells,
        "the answer is of class",
    ),
    (
        "a filter column compared with an open one",
        "SELECT booking FROM {b} WHERE state = CASE WHEN amount > 100 THEN 'open' ELSE 'x' END",
        OpenRows,
        "compared with anything else",
    ),
    (
        "rows counted by a filter column",
        "SELECT ward, state, count(*) AS n FROM {b} GROUP BY ward, state",
        OpenRows,
        "but not grouped by",
    ),
    (
        "cells of two products",
        "SELECT c.street, count(*) AS n FROM {c} c JOIN {v} v ON c.person = v.person GROUP BY c.street",
        ReleasedCells,
        "reads no other product",
    ),
    (
        "rows under a grant for cells, of people",
        "SELECT ward, opened FROM {c}",
        ReleasedCells,
        "(rule `cube.rows`)",
    ),
];

struct Tried<'a> {
    scene: &'a Scene,
    gateway: RogueGateway,
    care: RogueNode,
    hall: RogueNode,
    council: CouncilName,
    findings: Vec<Finding>,
}

/// The attacks; the last of them close an account, change a product and shut the gateway out.
pub(crate) async fn findings(scene: &mut Scene) -> Vec<Finding> {
    let after_restart = replayed_after_a_restart(scene).await;
    let city = &scene.city.city;
    let hold = |name| RogueNode::of(city, &node("siskin", name), Arc::new(SystemClock));
    let mut tried = Tried {
        scene,
        gateway: RogueGateway::of(city, Arc::new(SystemClock), "mallory", "care_planning").await,
        care: hold("care"),
        hall: hold("hall"),
        council: "siskin".parse().unwrap(),
        findings: Vec::new(),
    };
    tried.refused("a grant twice, with a restart between", after_restart);
    tried.plans().await;
    tried.grants_elsewhere().await;
    tried.grants_of_what_is_not_offered().await;
    tried.purposes().await;
    tried.charges().await;
    tried.peers_that_are_others().await;
    tried.second_gateway().await;
    tried.keys_under_an_old_grant().await;
    tried.findings
}

/// A node that has started again knows of no grant that was used before.
async fn replayed_after_a_restart(scene: &mut Scene) -> Result<(), String> {
    let city = &mut scene.city.city;
    let gateway = RogueGateway::of(city, Arc::new(SystemClock), "mallory", "care_planning").await;
    let fragment = gateway.honest(&fill(WARDS)).await;
    let grant = gateway.grant(&fragment, ReleasedCells).await.unwrap();
    gateway
        .send(&fragment, grant.clone())
        .await
        .map_err(|e| format!("{e:?}"))?;
    let care = node("siskin", "care");
    city.kill_node(&care).await.unwrap();
    city.start_node(&care).await.unwrap();
    by(
        "was issued before this node started",
        gateway.send(&fragment, grant).await,
    )
}

/// Whether it was refused in these words.
pub(crate) fn by<T>(words: &str, answer: Result<T, ClientError>) -> Result<(), String> {
    let Err(error) = answer else {
        return Err("it was done".to_owned());
    };
    match no::<()>(Err(error)) {
        (_, said) if said.contains(words) => Ok(()),
        (code, said) => Err(format!("refused, but not by `{words}`: {code:?} {said}")),
    }
}

/// Whether no connection came about at all: nobody was there to refuse.
fn unheard<T>(answer: Result<T, ClientError>) -> Result<(), String> {
    match answer {
        Err(ClientError::Unavailable { .. }) => Ok(()),
        Err(error) => Err(format!("it was heard: {error:?}")),
        Ok(_) => Err("it was done".to_owned()),
    }
}

impl Tried<'_> {
    fn add(&mut self, name: &str, verdict: &'static str, result: Result<(), String>) {
        let finding = Finding::of("roles in other hands", name, verdict, false, result);
        self.findings.push(finding);
    }

    fn refused(&mut self, name: &str, result: Result<(), String>) {
        self.add(name, "refused", result);
    }

    async fn cells(&self) -> (Fragment, Envelope) {
        let fragment = self.gateway.honest(&fill(WARDS)).await;
        let grant = self.gateway.grant(&fragment, ReleasedCells).await.unwrap();
        (fragment, grant)
    }

    async fn plans(&mut self) {
        for (name, sql, output, words) in PLANS {
            let fragment = self.gateway.forced(&fill(sql)).await;
            let answer = self.gateway.run(&fragment, *output).await;
            self.refused(name, by(words, answer));
        }
        for (name, sql, column, words) in [
            (
                "a column that was not named, though it is open",
                "SELECT ward, amount FROM {b}",
                "amount",
                "does not cover column `amount`",
            ),
            // Not even its name: `vehicle` is in no catalogue.
            (
                "a secret column that was not named",
                "SELECT permit, vehicle FROM {p}",
                "vehicle",
                "a column of `siskin.hall.permits` may not be read",
            ),
        ] {
            let mut fragment = self.gateway.forced(&fill(sql)).await;
            fragment.products[0]
                .columns
                .remove(&column.parse().unwrap());
            let answer = self.gateway.run(&fragment, OpenRows).await;
            self.refused(name, by(words, answer));
        }
    }

    /// Grants that are good, and presented for something else; and one that is as good as any but for who made it.
    async fn grants_elsewhere(&mut self) {
        let (cells, grant) = self.cells().await;
        let honest: Grant = envelope::read_unverified(&grant).unwrap();
        let forged = envelope::sign(&honest, &SigningKey::generate().unwrap());
        let answer = self.gateway.send(&cells, forged).await;
        self.refused(
            "an honest question under a grant of our own",
            by(NOT_FROM, answer),
        );
        let own = envelope::sign(&honest, &self.care.signer);
        let answer = self.gateway.send(&cells, own).await;
        self.refused(
            "an honest question under a node's own grant",
            by(NOT_FROM, answer),
        );

        if let Some(credential::Kind::AccessToken(token)) = self.gateway.credential.kind.clone() {
            let answer = self.gateway.send(&cells, token).await;
            self.refused("an access token as a grant", by(NOT_FROM, answer));
        }

        let wards = self.gateway.honest(&fill("SELECT ward FROM {w}")).await;
        let elsewhere = wards.with_bytes(cells.bytes.clone());
        let answer = self.gateway.send(&elsewhere, grant.clone()).await;
        self.refused("a grant at another node", by(NOT_FOR, answer));

        let same_reads =
            "SELECT ward, count(*) AS m, count(DISTINCT person) AS n FROM {c} GROUP BY ward";
        let other = self.gateway.honest(&fill(same_reads)).await;
        let answer = self.gateway.send(&other, grant.clone()).await;
        self.refused("a question that is honest too", by(NOT_FOR, answer));

        let stolen = send_as(&self.hall.dialer, &cells, grant.clone()).await;
        self.refused(
            "a node that asks a node",
            by("a node may not ask a node", stolen),
        );
        let first = self.gateway.send(&cells, grant.clone()).await;
        self.add(
            "the question itself",
            "released",
            first.map(drop).map_err(|e| format!("{e:?}")),
        );
        let again = self.gateway.send(&cells, grant).await;
        self.refused("a grant twice", by("has been used", again));
    }

    async fn ask(&self, change: impl Fn(&mut FragmentWanted)) -> Result<Envelope, ClientError> {
        let fragment = self.gateway.honest(&fill(WARDS)).await;
        let mut wanted = self.gateway.wanted(&fragment, ReleasedCells);
        change(&mut wanted);
        self.gateway.ask(&self.council, wanted).await
    }

    async fn grants_of_what_is_not_offered(&mut self) {
        let answer = self.ask(|w| w.products[0].version += 1).await;
        self.refused(
            "a grant for a version that is none",
            by("is now version 1", answer),
        );
        let hall = self.hall.peer.to_string();
        let answer = self.ask(|w| w.node.clone_from(&hall)).await;
        self.refused(
            "a grant at a node that has it not",
            by("is served by another node", answer),
        );
        let answer = self.ask(|w| w.recipient.clone_from(&hall)).await;
        self.refused(
            "an answer for another",
            by("results go to the gateway that asks", answer),
        );
        let answer = self
            .ask(|w| w.products[0].columns.push("name".to_owned()))
            .await;
        self.refused(
            "a grant for a secret column",
            by("never leaves its node", answer),
        );
        let rows = guildhall_grant::output_to_wire(OpenRows).into();
        let answer = self.ask(|w| w.output_class = rows).await;
        self.refused(
            "a grant for rows of people",
            by("it releases cells, not rows", answer),
        );
        let of_hall = |product: &'static str| {
            move |w: &mut FragmentWanted| {
                w.products[0].department = "hall".to_owned();
                w.products[0].product = product.to_owned();
            }
        };
        let hidden = no(self.ask(of_hall("quarantine_register")).await);
        let none = no(self.ask(of_hall("quarantine_registry")).await);
        let plain = |(code, said): (Code, String)| (code, said.replace("registry", "register"));
        let alike = match plain(hidden.clone()) == plain(none.clone()) {
            true => Ok(()),
            false => Err(format!("{hidden:?} and {none:?}")),
        };
        self.add(
            "a hidden product reads like none, to a gateway",
            "same-as",
            alike,
        );
    }

    /// Purposes that the analyst does not hold, and that a product has no budget for.
    async fn purposes(&mut self) {
        let held = "is not a purpose that you may name here";
        let fraud = "fraud_prevention".parse().unwrap();
        let authority = &self.gateway.authorities[&self.council];
        let answer = authority
            .catalogue(self.gateway.credential.clone(), Some(&fraud))
            .await;
        self.refused("a catalogue for a purpose not held", by(held, answer));
        let answer = self.asking_for(fraud).await;
        self.refused("a grant for a purpose not held", by(held, answer));
        let care_planning = self.gateway.purpose.clone();
        let fragment = self.free(&care_planning).await;
        self.gateway.purpose = "commissioning".parse().unwrap();
        let answer = self.gateway.run(&fragment, ReleasedCells).await;
        self.gateway.purpose = care_planning;
        self.refused(
            "a free question for a purpose without a budget",
            by("(rule `cube.", answer),
        );
    }

    /// A free question, as a gateway writes it for `purpose`.
    async fn free(&self, purpose: &Purpose) -> Fragment {
        let sql = "SELECT count(*) AS n FROM {a} WHERE savings > 460";
        let product = self.gateway.product("siskin.care.panel");
        let plan = self.gateway.plan(&fill(sql)).await;
        let mut aggregate = &plan;
        while let LogicalPlan::Projection(p) = aggregate {
            aggregate = p.input.as_ref();
        }
        match lane(aggregate, product, product.budget(purpose)).unwrap() {
            Lane::AdHoc(query) => self
                .gateway
                .encoded(&query.canonical_plan(&schema_of(product)).unwrap()),
            Lane::Cube(_) => panic!("the cube takes it"),
        }
    }

    async fn asking_for(&mut self, purpose: Purpose) -> Result<Envelope, ClientError> {
        let before = std::mem::replace(&mut self.gateway.purpose, purpose);
        let answer = self.ask(|_| ()).await;
        self.gateway.purpose = before;
        answer
    }

    /// A node that charges what it likes.
    async fn charges(&mut self) {
        let sql = "SELECT street, count(DISTINCT person) AS n FROM {s} GROUP BY street";
        let fragment = self.gateway.honest(&fill(sql)).await;
        let grant = self.gateway.grant(&fragment, ReleasedCells).await.unwrap();
        let charge = |nano_rho, question: &[u8]| DebitRequest {
            grant: Some(grant.clone()),
            fragment_digest: fragment.digest().as_bytes().to_vec(),
            product: "surveys".to_owned(),
            nano_rho,
            question_digest: Digest::of(question).as_bytes().to_vec(),
        };
        let authority = &self.care.authority;
        let dear = authority.debit(charge(1_000_001, b"dear")).await;
        let free = authority.debit(charge(0, b"free")).await;
        let paid = authority.debit(charge(1_000, b"one")).await;
        let another = authority.debit(charge(1_000, b"another")).await;
        self.refused(
            "a charge beyond one question's",
            by("one question costs at most", dear),
        );
        self.refused(
            "a charge of nothing",
            by("a question costs something", free),
        );
        self.add(
            "a charge",
            "released",
            paid.map(drop).map_err(|e| format!("{e:?}")),
        );
        self.refused("two questions on one grant", by("has been used", another));
    }

    /// Whoever poses as another is not heard at all.
    async fn peers_that_are_others(&mut self) {
        let (cells, grant) = self.cells().await;
        let wards = self.gateway.honest(&fill("SELECT ward FROM {w}")).await;
        let mut posing = wards.with_bytes(cells.bytes.clone());
        posing.node.clone_from(&cells.node);
        let answer = self.gateway.send(&posing, grant.clone()).await;
        self.refused("a department's node in another's place", unheard(answer));

        let dialer = &self.gateway.dialer;
        let a_node = AuthorityClient::new(dialer, &cells.address, &self.council).unwrap();
        let linnet = self.authority_of("linnet");
        let neighbour = AuthorityClient::new(dialer, &linnet, &self.council).unwrap();
        let (a_node, neighbour) = (a_node.trust().await, neighbour.trust().await);
        self.refused("a node in the authority's place", unheard(a_node));
        self.refused("the neighbour's authority in ours", unheard(neighbour));

        let own = self.self_made();
        let answer = send_as(&own, &cells, grant).await;
        self.refused("a gateway whose certificate we made", unheard(answer));
    }

    fn authority_of(&self, council: &str) -> String {
        let config = self.scene.city.city.gateway_config();
        let mut councils = config.councils.iter();
        let found = councils.find(|c| c.name.as_str() == council).unwrap();
        found.authority.clone()
    }

    /// The gateway's name, on a certificate of a certificate authority of our own.
    fn self_made(&self) -> Dialer {
        let now = SystemClock.now();
        let ours = CertificateAuthority::generate(&self.council, now).unwrap();
        let (key, csr) = new_key_and_csr().unwrap();
        let until = now.after(Duration::from_secs(3600));
        let chain = ours
            .issue(&csr, &self.gateway.peer, &[], now, until)
            .unwrap();
        let identity = Identity::from_pem(&chain, &key).unwrap();
        Dialer::new(
            &identity,
            self.gateway.dialer.trust(),
            Arc::new(SystemClock),
        )
    }

    fn admin(&self) -> Admin {
        let config = self
            .scene
            .city
            .city
            .authority_config(&self.council)
            .unwrap();
        Admin::open(&config.data).unwrap()
    }

    /// A gateway like the city's own, with a name of its own, which holds the other's grant.
    async fn second_gateway(&mut self) {
        let (cells, grant) = self.cells().await;
        let thief = "spiffe://siskin/council/gateway/thief".parse().unwrap();
        let code = self.admin().invite(&thief, SystemClock.now()).unwrap();
        let enrol = |address: String| {
            let desk = EnrolmentClient::new(&address, &code, Arc::new(SystemClock)).unwrap();
            async move { desk.enrol(&[], &[]).await }
        };
        let elsewhere = enrol(self.authority_of("linnet")).await;
        self.refused("an enrolment desk that is another's", unheard(elsewhere));
        let thief = enrol(self.authority_of("siskin")).await.unwrap();
        let dialer = Dialer::new(&thief.identity, &thief.trust, Arc::new(SystemClock));
        let answer = send_as(&dialer, &cells, grant).await;
        self.refused("a grant in another gateway's hands", by(NOT_FOR, answer));
    }

    /// Grants that were good when they were issued: their product, their account and their gateway are gone.
    async fn keys_under_an_old_grant(&mut self) {
        let city = &self.scene.city.city;
        let wards = self.gateway.honest(&fill("SELECT ward FROM {w}")).await;
        let permits = self.gateway.honest(&fill("SELECT ward FROM {p}")).await;
        let norman = RogueGateway::of(city, Arc::new(SystemClock), "norman", "care_planning").await;
        let of_gateway = self.gateway.grant(&wards, OpenRows).await.unwrap();
        let of_norman = norman.grant(&wards, OpenRows).await.unwrap();
        let of_permits = self.gateway.grant(&permits, OpenRows).await.unwrap();

        let mut newer: Product = self.gateway.product("siskin.hall.permits").clone();
        newer.version += 1;
        let signed = envelope::sign(&newer, &self.hall.signer);
        self.hall.authority.register_product(signed).await.unwrap();
        self.key(
            "a key for a product that has changed",
            &of_permits,
            &permits,
            "permits.ward",
        )
        .await;

        let now = SystemClock.now();
        self.admin()
            .revoke_account(&"norman".parse().unwrap(), now)
            .unwrap();
        self.key(
            "a key for an account that is closed",
            &of_norman,
            &wards,
            "wards.ward",
        )
        .await;

        let peer = self.gateway.peer.clone();
        self.admin().revoke_peer(&peer, now).unwrap();
        self.key(
            "a key for a gateway that is shut out",
            &of_gateway,
            &wards,
            "wards.ward",
        )
        .await;
    }

    async fn key(&mut self, name: &str, grant: &Envelope, fragment: &Fragment, column: &str) {
        let loan = self.hall.request(grant, fragment, &[column]).await;
        let result = match self.hall.borrow(&loan).await {
            Ok(keys) => Err(format!("lent: {keys:?}")),
            Err(error) => self.scene.nothing("", no::<()>(Err(error)).1.as_bytes()),
        };
        self.refused(name, result);
    }
}
