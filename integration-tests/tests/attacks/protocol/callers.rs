//! Who calls: strangers, and accounts that may not.

use super::{CELLS, Tried};
use crate::table::fill;
use crate::wire::{Attacker, prepare, statement};
use arrow_flight::{Criteria, FlightData, FlightDescriptor, Ticket};
use prost::Message as _;
use tonic::Code;

impl Tried<'_> {
    pub(super) async fn without_a_credential(&mut self) {
        let stranger = Attacker::stranger(&self.scene.city);
        let descriptor = FlightDescriptor::new_cmd(statement(&fill(CELLS))).encode_to_vec();
        for (name, method, message) in [
            (
                "no credential: GetFlightInfo",
                "GetFlightInfo",
                descriptor.clone(),
            ),
            ("no credential: GetSchema", "GetSchema", descriptor.clone()),
            (
                "no credential: PollFlightInfo",
                "PollFlightInfo",
                descriptor,
            ),
            (
                "no credential: DoGet",
                "DoGet",
                Ticket::new("x").encode_to_vec(),
            ),
            ("no credential: DoAction", "DoAction", prepare("SELECT 1")),
            (
                "no credential: DoPut",
                "DoPut",
                FlightData::default().encode_to_vec(),
            ),
            (
                "no credential: DoExchange",
                "DoExchange",
                FlightData::default().encode_to_vec(),
            ),
            (
                "no credential: ListFlights",
                "ListFlights",
                Criteria::default().encode_to_vec(),
            ),
            ("no credential: ListActions", "ListActions", Vec::new()),
            ("no credential: Handshake", "Handshake", Vec::new()),
        ] {
            let reply = stranger.call(method, vec![message]).await;
            self.refused(name, &reply, &[Code::Unauthenticated]);
        }
    }

    pub(super) async fn with_a_bad_credential(&mut self) {
        let stranger = Attacker::stranger(&self.scene.city);
        let good = self.scene.mallory.header("authorization").to_owned();
        let mut altered = good.clone().into_bytes();
        let middle = altered.len() / 2;
        altered[middle] = if altered[middle] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(altered).unwrap();
        let short = good[..good.len() - 5].to_owned();
        let descriptor = FlightDescriptor::new_cmd(statement("SELECT 1")).encode_to_vec();
        for (name, value) in [
            ("an altered token", altered.as_str()),
            ("a token cut short", &short),
            ("a token of another kind", "Bearer eyJhbGciOiJub25lIn0.e30."),
            ("a password that is none", "Basic bWFsbG9yeTpndWVzcw=="),
        ] {
            let reply = stranger
                .clone()
                .with("authorization", value)
                .call("GetFlightInfo", vec![descriptor.clone()])
                .await;
            self.refused(name, &reply, &[Code::Unauthenticated]);
        }
        let guess = stranger
            .clone()
            .with("authorization", "Basic bWFsbG9yeTpndWVzcw==");
        let nobody = stranger.with("authorization", "Basic bm9ib2R5MTpndWVzcw==");
        let (one, other) = (
            guess.call("Handshake", vec![Vec::new()]).await,
            nobody.call("Handshake", vec![Vec::new()]).await,
        );
        let result = if one.refused == other.refused && one.refused.is_some() {
            Ok(())
        } else {
            Err(format!("{:?} and {:?}", one.refused, other.refused))
        };
        self.add(
            "an account that is none reads like a wrong password",
            "same-as",
            result,
        );
    }

    pub(super) async fn as_somebody_else(&mut self) {
        let scene = self.scene;
        let hidden = fill("SELECT * FROM {r}");
        let cells = fill(CELLS);
        let open = fill("SELECT ward FROM {w}");
        let mabel = Attacker::signed_in(&scene.city, "mabel", "care_planning").await;
        let norman = Attacker::signed_in(&scene.city, "norman", "care_planning").await;
        let lena = Attacker::signed_in(&scene.city, "lena@linnet", "care_planning").await;
        let fraud = scene
            .mallory
            .clone()
            .instead("x-guildhall-purpose", "fraud_prevention");
        let development = scene
            .mallory
            .clone()
            .instead("x-guildhall-purpose", "development");
        let olive = Attacker::signed_in(&scene.city, "olive", "fraud_prevention").await;
        for (name, who, sql, codes) in [
            (
                "cells, without a role",
                &norman,
                &cells,
                &[Code::NotFound][..],
            ),
            (
                "cells, with a role elsewhere",
                &lena,
                &cells,
                &[Code::NotFound],
            ),
            (
                "the register, for a purpose not held",
                &fraud,
                &hidden,
                &[Code::PermissionDenied],
            ),
            (
                "the register, without a role",
                &norman,
                &hidden,
                &[Code::NotFound],
            ),
            (
                "cells, for a purpose they are not offered for",
                &development,
                &cells,
                &[Code::NotFound],
            ),
            (
                "cells, by one who may read the register",
                &olive,
                &cells,
                &[Code::NotFound],
            ),
            (
                "open rows, against the department's own policy",
                &mabel,
                &open,
                &[Code::PermissionDenied],
            ),
            (
                "the register, in two headers of purpose",
                &fraud.clone().with("x-guildhall-purpose", "care_planning"),
                &hidden,
                &[
                    Code::NotFound,
                    Code::PermissionDenied,
                    Code::InvalidArgument,
                ],
            ),
            (
                "the register, in another's cookie",
                &scene
                    .mallory
                    .clone()
                    .with("cookie", "arrow_flight_session_id=olive"),
                &hidden,
                &[Code::NotFound],
            ),
            (
                "the register, by a header of our own making",
                &scene.mallory.clone().with("x-guildhall-role", "auditor"),
                &hidden,
                &[Code::NotFound],
            ),
        ] {
            let outcome = who.ask(sql).await;
            self.refused_to(name, sql, outcome.replies.last().unwrap(), codes);
        }
    }
}
