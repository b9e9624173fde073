//! A gateway in the attacker's hands: plans that a front door would never send, and grants that are not for them.

use crate::judge::{Finding, Scene};
use crate::rogue::{Fragment, RogueGateway, RogueNode, no, send_as};
use crate::table::fill;
use arrow::array::RecordBatch;
use guildhall_client::ClientError;
use guildhall_grant::{Grant, SigningKey, Statement as _, envelope};
use guildhall_model::OutputClass::{self, OpenRows, ReleasedCells};
use guildhall_model::SystemClock;
use guildhall_proto::envelope::v1::Envelope;
use guildhall_testkit::{node, rows};
use prost::Message as _;
use std::sync::Arc;
use tonic::Code;

/// Plans over people that no rule lets out, sent to the node as they are.
const PLANS: &[(&str, &str)] = &[
    ("every column, forced", "SELECT * FROM {c}"),
    ("one column, forced", "SELECT name FROM {c} LIMIT 1"),
    ("distinct names, forced", "SELECT DISTINCT name FROM {c}"),
    (
        "cells of one, forced",
        "SELECT person, count(*) AS n FROM {c} GROUP BY person",
    ),
    (
        "an identifier called ward, forced",
        "SELECT ward, count(*) AS n FROM (SELECT person AS ward FROM {c}) x GROUP BY ward",
    ),
    (
        "a filter on a name, forced",
        "SELECT ward, count(*) AS n FROM {c} WHERE name = 'Zebedee Quillfeather' GROUP BY ward",
    ),
    (
        "a range of a measure, forced",
        "SELECT ward, count(*) AS n FROM {c} WHERE weekly_cost > 10000 GROUP BY ward",
    ),
    (
        "all but one, forced",
        "SELECT ward, count(*) AS n FROM {c} WHERE person <> 'P-7Q2MZEBEDEE' GROUP BY ward",
    ),
    (
        "an OR, forced",
        "SELECT count(*) AS n FROM {c} WHERE ward = 'W4' OR age_band = '80+'",
    ),
    (
        "a made-up group, forced",
        "SELECT count(*) AS n FROM {c} WHERE ward IN ('W4', 'W5')",
    ),
    (
        "FILTER, forced",
        "SELECT ward, count(*) FILTER (WHERE person = 'P-7Q2MZEBEDEE') AS n FROM {c} GROUP BY ward",
    ),
    (
        "the most, forced",
        "SELECT ward, max(weekly_cost) AS n FROM {c} GROUP BY ward",
    ),
    (
        "all names of a street, forced",
        "SELECT street, array_agg(name) AS n FROM {c} GROUP BY street",
    ),
    (
        "texts joined, forced",
        "SELECT string_agg(note, ',') AS n FROM {c}",
    ),
    (
        "the median, forced",
        "SELECT median(weekly_cost) AS n FROM {c}",
    ),
    (
        "the spread, forced",
        "SELECT stddev(weekly_cost) AS n FROM {c}",
    ),
    (
        "a scaled sum, forced",
        "SELECT sum(hours * 1000000) AS n FROM {c}",
    ),
    (
        "a sum by CASE, forced",
        "SELECT sum(CASE WHEN person = 'P-7Q2MZEBEDEE' THEN weekly_cost END) AS n FROM {c}",
    ),
    (
        "grouping sets, forced",
        "SELECT ward, count(*) AS n FROM {c} GROUP BY GROUPING SETS ((ward), (person))",
    ),
    (
        "an aggregate of an aggregate, forced",
        "SELECT max(n) AS n FROM (SELECT person, count(*) AS n FROM {c} GROUP BY person) x",
    ),
    (
        "small cells kept, forced",
        "SELECT street, n FROM (SELECT street, count(*) AS n FROM {c} GROUP BY street) x WHERE n < 10",
    ),
    (
        "a self-join, forced",
        "SELECT a.ward, count(*) AS n FROM {c} a JOIN {c} b ON a.person = b.person GROUP BY a.ward",
    ),
    (
        "a list brought along, forced",
        "SELECT c.ward, count(*) AS n FROM {c} c JOIN (VALUES ('P-7Q2MZEBEDEE')) v(x) ON c.person = v.x GROUP BY c.ward",
    ),
    (
        "rows doubled, forced",
        "SELECT ward, count(*) AS n FROM (SELECT * FROM {c} UNION ALL SELECT * FROM {c}) x GROUP BY ward",
    ),
    (
        "visits joined, forced",
        "SELECT c.street, count(*) AS n FROM {c} c JOIN {v} v ON c.person = v.person GROUP BY c.street",
    ),
    (
        "a window, forced",
        "SELECT row_number() OVER (ORDER BY weekly_cost) AS r, ward FROM {c}",
    ),
    (
        "the top row counted, forced",
        "SELECT sum(weekly_cost) AS n FROM (SELECT weekly_cost FROM {c} ORDER BY weekly_cost DESC LIMIT 1) x",
    ),
    (
        "by the minute, forced",
        "SELECT date_trunc('minute', opened) AS t, count(*) AS n FROM {c} GROUP BY 1",
    ),
];

/// Plans over open products that touch what must not be touched.
const OPEN_PLANS: &[(&str, &str)] = &[
    ("a secret column, forced", "SELECT vehicle FROM {p}"),
    (
        "a secret filter, forced",
        "SELECT permit FROM {p} WHERE pin = 76543219",
    ),
    (
        "a secret order, forced",
        "SELECT permit FROM {p} ORDER BY vehicle",
    ),
    ("an identifier, forced", "SELECT holder FROM {p}"),
    (
        "a secret counted, forced",
        "SELECT count(DISTINCT vehicle) AS n FROM {p}",
    ),
    (
        "a filter column in a row, forced",
        "SELECT booking, state FROM {b}",
    ),
];

struct Tried<'a> {
    scene: &'a Scene,
    gateway: RogueGateway,
    findings: Vec<Finding>,
}

pub(crate) async fn findings(scene: &Scene) -> Vec<Finding> {
    let city = &scene.city.city;
    let gateway = RogueGateway::of(city, Arc::new(SystemClock), "mallory", "care_planning").await;
    let mut tried = Tried {
        scene,
        gateway,
        findings: Vec::new(),
    };
    for (name, sql) in PLANS {
        tried.forced(name, sql, ReleasedCells).await;
    }
    for (name, sql) in OPEN_PLANS {
        tried.forced(name, sql, OpenRows).await;
    }
    tried.other_fragments().await;
    tried.other_signers().await;
    tried.other_hands().await;
    tried.keys_beyond_the_grant().await;
    tried.what_the_net_holds_back().await;
    tried.findings
}

impl Tried<'_> {
    fn add(&mut self, name: &str, verdict: &'static str, result: Result<(), String>) {
        let finding = Finding::of("grants", name, verdict, false, result);
        self.findings.push(finding);
    }

    fn refused(&mut self, name: &str, answer: Result<RecordBatch, ClientError>) {
        let result = match answer {
            Ok(batch) => Err(format!(
                "{} rows left: {:?}",
                batch.num_rows(),
                rows(&batch.slice(0, batch.num_rows().min(3)))
            )),
            Err(error) => {
                let (code, words) = no::<()>(Err(error));
                match code {
                    Code::PermissionDenied
                    | Code::InvalidArgument
                    | Code::NotFound
                    | Code::FailedPrecondition => {
                        self.scene.nothing("quarantine_register", words.as_bytes())
                    }
                    other => Err(format!("{other:?} {words}")),
                }
            }
        };
        self.add(name, "refused", result);
    }

    async fn forced(&mut self, name: &str, sql: &str, output: OutputClass) {
        let fragment = self.gateway.forced(&fill(sql)).await;
        let answer = self.gateway.run(&fragment, output).await;
        self.refused(name, answer);
        if output == ReleasedCells {
            let rows = self
                .gateway
                .grant(&fragment, OpenRows)
                .await
                .err()
                .map(|e| e.code());
            if rows != Some(Code::PermissionDenied) {
                self.add(
                    &format!("{name}, under a grant for rows"),
                    "refused",
                    Err(format!("{rows:?}")),
                );
            }
        }
    }

    async fn cells(&self) -> Fragment {
        self.gateway
            .honest(&fill("SELECT ward, count(*) AS n FROM {c} GROUP BY ward"))
            .await
    }

    async fn other_fragments(&mut self) {
        let honest = self.cells().await;
        let grant = self.gateway.grant(&honest, ReleasedCells).await.unwrap();
        let other = self.gateway.forced(&fill("SELECT * FROM {c}")).await;
        let mut longer = honest.bytes.clone();
        longer.extend([0x7a, 0]);
        let mut flipped = honest.bytes.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for (name, fragment) in [
            ("another fragment than was granted", other),
            ("a fragment made longer", honest.with_bytes(longer)),
            ("a fragment with a bit turned", honest.with_bytes(flipped)),
            ("no fragment", honest.with_bytes(Vec::new())),
        ] {
            let answer = self.gateway.send(&fragment, grant.clone()).await;
            self.refused(name, answer);
        }
        let used = self.gateway.send(&honest, grant.clone()).await;
        self.add(
            "the granted fragment itself",
            "released",
            used.map(drop).map_err(|e| format!("{e:?}")),
        );
        let again = self.gateway.send(&honest, grant).await;
        self.refused("a grant that is used up", again);
        let mut fewer = self
            .gateway
            .forced(&fill(
                "SELECT street, sum(weekly_cost) AS s FROM {c} GROUP BY street",
            ))
            .await;
        fewer.products[0]
            .columns
            .remove(&"weekly_cost".parse().unwrap());
        let answer = self.gateway.run(&fewer, ReleasedCells).await;
        self.refused("a column that was not named", answer);
    }

    async fn other_signers(&mut self) {
        let fragment = self
            .gateway
            .forced(&fill("SELECT person, weekly_cost FROM {c}"))
            .await;
        let granted = self.gateway.grant(&fragment, ReleasedCells).await.unwrap();
        let honest: Grant = envelope::read_unverified(&granted).unwrap();
        let forged = Grant {
            output: OpenRows,
            ..honest
        };
        let care = self.care();
        let own = envelope::sign(&forged, &SigningKey::generate().unwrap());
        let mut named = own.clone();
        named.signatures[0]
            .keyid
            .clone_from(&granted.signatures[0].keyid);
        let mut unsigned = own.clone();
        unsigned.signatures.clear();
        let altered = Envelope {
            payload: forged.to_wire().encode_to_vec(),
            ..granted
        };
        for (name, grant) in [
            ("a grant of our own", own),
            ("a grant under another's key id", named),
            ("a grant without a signature", unsigned),
            ("a grant rewritten", altered),
            (
                "a grant by the node itself",
                envelope::sign(&forged, &care.signer),
            ),
            ("no grant", Envelope::default()),
        ] {
            let answer = self.gateway.send(&fragment, grant).await;
            self.refused(name, answer);
        }
        let theirs = self
            .gateway
            .honest(&fill("SELECT ward, count(*) AS n FROM {l} GROUP BY ward"))
            .await;
        let foreign = self.gateway.grant(&theirs, ReleasedCells).await.unwrap();
        let ours = self.cells().await.with_bytes(theirs.bytes.clone());
        let answer = self.gateway.send(&ours, foreign).await;
        self.refused("the neighbour's grant at our node", answer);
    }

    fn care(&self) -> RogueNode {
        RogueNode::of(
            &self.scene.city.city,
            &node("siskin", "care"),
            Arc::new(SystemClock),
        )
    }

    async fn other_hands(&mut self) {
        let fragment = self.cells().await;
        let grant = self.gateway.grant(&fragment, ReleasedCells).await.unwrap();
        let hall = RogueNode::of(
            &self.scene.city.city,
            &node("siskin", "hall"),
            Arc::new(SystemClock),
        );
        let stolen = send_as(&hall.dialer, &fragment, grant).await;
        self.refused("a grant in another's hands", stolen);
        let hidden = |change: &dyn Fn(&mut guildhall_proto::authority::v1::FragmentWanted)| {
            let mut wanted = self.gateway.wanted(&fragment, ReleasedCells);
            change(&mut wanted);
            wanted
        };
        let council = "siskin".parse().unwrap();
        let mut answers = Vec::new();
        for (name, wanted) in [
            (
                "a grant for a hidden product",
                hidden(&|w| {
                    w.products[0].department = "hall".to_owned();
                    w.products[0].product = "quarantine_register".to_owned();
                }),
            ),
            (
                "a grant for another's answer",
                hidden(&|w| w.recipient = hall.peer.to_string()),
            ),
            (
                "a grant for a column that is none",
                hidden(&|w| w.products[0].columns.push("keys".to_owned())),
            ),
            ("a grant for nothing", hidden(&|w| w.products.clear())),
        ] {
            let answer = self.gateway.ask(&council, wanted).await;
            answers.push((
                name,
                answer.map(|_| RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty()))),
            ));
        }
        for (name, answer) in answers {
            self.refused(name, answer);
        }
    }

    /// A node that asks its authority for more keys than the grant covers.
    async fn keys_beyond_the_grant(&mut self) {
        let fragment = self.cells().await;
        let grant = self.gateway.grant(&fragment, ReleasedCells).await.unwrap();
        let care = self.care();
        for (name, column) in [
            ("the key of a name", "cases.name"),
            ("the key of the notes", "cases.note"),
            ("a key of another dataset", "residents.savings"),
        ] {
            let loan = care.request(&grant, &fragment, &[column]).await;
            let result = match care.borrow(&loan).await {
                Ok(keys) => Err(format!("lent: {keys:?}")),
                Err(error) => self.scene.nothing("", no::<()>(Err(error)).1.as_bytes()),
            };
            self.add(name, "refused", result);
        }
    }

    /// What a gateway gets under honest grants holds no canary either: it is withheld at the node.
    async fn what_the_net_holds_back(&mut self) {
        for (name, sql) in [
            (
                "cells of streets, at the node",
                "SELECT street, count(*) AS n, sum(hours) AS h FROM {c} GROUP BY street",
            ),
            (
                "cells of needs, at the node",
                "SELECT need, ward, count(DISTINCT person) AS n FROM {c} GROUP BY need, ward",
            ),
            (
                "cells of all, at the node",
                "SELECT ward, street, need, age_band, opened, count(*) AS n FROM {c} GROUP BY ward, street, need, age_band, opened",
            ),
        ] {
            let fragment = self.gateway.honest(&fill(sql)).await;
            let result = match self.gateway.run(&fragment, ReleasedCells).await {
                Ok(batch) => self
                    .scene
                    .nothing("", rows(&batch).unwrap().join("\n").as_bytes()),
                Err(error) => Err(format!("{error:?}")),
            };
            self.add(name, "withheld", result);
        }
    }
}
