//! Below the statements: calls, tickets, handles, parameters and headers as no client of ours would send them.

use crate::judge::{Finding, Scene};
use crate::table::fill;
use crate::wire::{Attacker, Outcome, Reply, action, handle_of, prepare, statement};
use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::sql::{
    ActionCancelQueryRequest, Any, CommandGetCatalogs, CommandGetCrossReference,
    CommandGetDbSchemas, CommandGetExportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo,
    CommandGetTables, CommandPreparedStatementQuery, CommandStatementIngest,
    CommandStatementSubstraitPlan, CommandStatementUpdate, DoPutPreparedStatementResult,
    ProstMessageExt, SubstraitPlan, TicketStatementQuery,
};
use arrow_flight::{Criteria, FlightData, FlightDescriptor, FlightInfo, PutResult, Ticket};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;
use std::sync::Arc;
use tonic::Code;

const CELLS: &str = "SELECT ward, count(DISTINCT person) AS n FROM {c} GROUP BY ward";

/// The class's findings, as they come.
struct Tried<'a> {
    scene: &'a Scene,
    findings: Vec<Finding>,
}

pub(crate) async fn findings(scene: &Scene) -> Vec<Finding> {
    let mut tried = Tried {
        scene,
        findings: Vec::new(),
    };
    tried.without_a_credential().await;
    tried.with_a_bad_credential().await;
    tried.with_tickets_of_others().await;
    tried.with_commands_that_are_none().await;
    tried.with_metadata_commands().await;
    tried.with_parameters().await;
    tried.as_somebody_else().await;
    tried.findings
}

impl Tried<'_> {
    fn add(&mut self, name: &str, verdict: &'static str, result: Result<(), String>) {
        self.findings.push(Finding {
            class: "protocol",
            name: name.to_owned(),
            verdict,
            failure: result.err(),
            awaited: false,
        });
    }

    /// `reply` must be a refusal with one of `codes`, clean.
    fn refused(&mut self, name: &str, reply: &Reply, codes: &[Code]) {
        let result = self
            .scene
            .nothing("", &reply.bytes())
            .and_then(|()| match &reply.refused {
                Some((code, _)) if codes.contains(code) => Ok(()),
                other => Err(format!("{other:?}, {} messages", reply.messages.len())),
            });
        self.add(name, "refused", result);
    }

    async fn without_a_credential(&mut self) {
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

    async fn with_a_bad_credential(&mut self) {
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

    async fn with_tickets_of_others(&mut self) {
        let scene = self.scene;
        let olive = Attacker::signed_in(&scene.city, "olive", "fraud_prevention").await;
        let hers = olive.ticket(&fill("SELECT * FROM {r}")).await;
        let own = scene.mallory.ticket(&fill(CELLS)).await;
        let mut flipped = own.clone();
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        let handle = scene
            .mallory
            .call("DoAction", vec![prepare(&fill(CELLS))])
            .await;
        let handle = handle_of(&handle).unwrap();
        let as_ticket = TicketStatementQuery {
            statement_handle: handle.into(),
        };
        for (name, ticket) in [
            ("another's ticket", hers.clone()),
            ("a ticket with a bit turned", flipped),
            ("half a ticket", own[..own.len() / 2].to_vec()),
            ("no ticket", Vec::new()),
            (
                "a ticket that is text",
                b"SELECT * FROM siskin.care.cases".to_vec(),
            ),
            ("a ticket that is a command", statement(&fill(CELLS))),
            ("a handle as a ticket", as_ticket.as_any().encode_to_vec()),
        ] {
            let reply = scene
                .mallory
                .call("DoGet", vec![Ticket::new(ticket).encode_to_vec()])
                .await;
            self.refused(name, &reply, &[Code::InvalidArgument]);
        }
        let info = FlightInfo::new().with_endpoint(
            arrow_flight::FlightEndpoint::new().with_ticket(Ticket::new(hers.clone())),
        );
        let cancel = ActionCancelQueryRequest {
            info: info.encode_to_vec().into(),
        };
        let reply = scene
            .mallory
            .call(
                "DoAction",
                vec![action("CancelQuery", cancel.as_any().encode_to_vec())],
            )
            .await;
        self.refused(
            "another's query cancelled",
            &reply,
            &[Code::InvalidArgument],
        );
        let request = arrow_flight::RenewFlightEndpointRequest::new(info.endpoint[0].clone());
        let reply = scene
            .mallory
            .call(
                "DoAction",
                vec![action("RenewFlightEndpoint", request.encode_to_vec())],
            )
            .await;
        self.refused("another's ticket renewed", &reply, &[Code::InvalidArgument]);
        let stolen = handle_of(
            &olive
                .call("DoAction", vec![prepare(&fill("SELECT * FROM {r}"))])
                .await,
        )
        .unwrap();
        let command = CommandPreparedStatementQuery {
            prepared_statement_handle: stolen.into(),
        };
        let outcome = scene
            .mallory
            .command(command.as_any().encode_to_vec())
            .await;
        self.refused(
            "another's handle",
            outcome.replies.last().unwrap(),
            &[Code::InvalidArgument],
        );
        let elsewhere = scene
            .mallory
            .clone()
            .instead("x-guildhall-purpose", "fraud_prevention")
            .fetch(&hers)
            .await;
        self.refused(
            "another's ticket for her purpose",
            &elsewhere.replies[0],
            &[Code::InvalidArgument, Code::PermissionDenied],
        );
        let twice = (
            scene.mallory.fetch(&own).await,
            scene.mallory.fetch(&own).await,
        );
        let result = if twice.0.rows() == twice.1.rows() {
            Ok(())
        } else {
            Err("two answers".to_owned())
        };
        self.add("a ticket twice", "same-as", result);
    }

    async fn with_commands_that_are_none(&mut self) {
        let plan = CommandStatementSubstraitPlan {
            plan: Some(SubstraitPlan {
                plan: b"siskin.care.cases".to_vec().into(),
                version: "0.50".to_owned(),
            }),
            transaction_id: None,
        };
        let unknown = Any {
            type_url: "type.googleapis.com/google.protobuf.Any".to_owned(),
            value: Vec::new().into(),
        };
        let no = &[Code::InvalidArgument, Code::Unimplemented];
        for (name, descriptor) in [
            (
                "a Substrait plan",
                FlightDescriptor::new_cmd(plan.as_any().encode_to_vec()),
            ),
            (
                "a path",
                FlightDescriptor::new_path(vec!["siskin".into(), "care".into(), "cases".into()]),
            ),
            ("no command", FlightDescriptor::new_cmd(Vec::new())),
            (
                "a command of no kind",
                FlightDescriptor::new_cmd(unknown.encode_to_vec()),
            ),
            (
                "a command that is noise",
                FlightDescriptor::new_cmd(vec![0xff; 100]),
            ),
            (
                "a command of rows to take",
                FlightDescriptor::new_cmd(
                    CommandStatementIngest::default().as_any().encode_to_vec(),
                ),
            ),
        ] {
            let reply = self
                .scene
                .mallory
                .call("GetFlightInfo", vec![descriptor.encode_to_vec()])
                .await;
            self.refused(name, &reply, no);
        }
        let put = |command: Vec<u8>| {
            FlightData::new()
                .with_descriptor(FlightDescriptor::new_cmd(command))
                .encode_to_vec()
        };
        let update = CommandStatementUpdate {
            query: fill("DELETE FROM {b}"),
            transaction_id: None,
        };
        for (name, method, message) in [
            (
                "rows put into a product",
                "DoPut",
                put(CommandStatementIngest::default().as_any().encode_to_vec()),
            ),
            (
                "an update put",
                "DoPut",
                put(update.as_any().encode_to_vec()),
            ),
            (
                "a query put as an update",
                "DoPut",
                put(statement(&fill(CELLS))),
            ),
            (
                "data put for nothing",
                "DoPut",
                FlightData::default().encode_to_vec(),
            ),
            ("data exchanged", "DoExchange", put(statement(&fill(CELLS)))),
            (
                "flights listed",
                "ListFlights",
                Criteria::default().encode_to_vec(),
            ),
            (
                "an action that is none",
                "DoAction",
                action("DumpState", Vec::new()),
            ),
            (
                "a transaction begun",
                "DoAction",
                action("BeginTransaction", Vec::new()),
            ),
            (
                "a plan prepared",
                "DoAction",
                action("CreatePreparedSubstraitPlan", Vec::new()),
            ),
            (
                "an action of noise",
                "DoAction",
                action("CreatePreparedStatement", vec![0xff; 64]),
            ),
            ("a message of noise", "GetFlightInfo", vec![0xff; 64]),
        ] {
            let reply = self.scene.mallory.call(method, vec![message]).await;
            // What is no message at all is turned away by the wire's own decoder.
            self.refused(
                name,
                &reply,
                &[Code::InvalidArgument, Code::Unimplemented, Code::Internal],
            );
        }
        let descriptor =
            FlightDescriptor::new_cmd(statement(&fill("SELECT name FROM {c}"))).encode_to_vec();
        for (name, method) in [
            ("the schema of what is refused", "GetSchema"),
            ("a poll for what is refused", "PollFlightInfo"),
        ] {
            let reply = self
                .scene
                .mallory
                .call(method, vec![descriptor.clone()])
                .await;
            self.refused(name, &reply, &[Code::PermissionDenied]);
        }
        let descriptor = FlightDescriptor::new_cmd(statement(&fill(CELLS))).encode_to_vec();
        let info: FlightInfo = self
            .scene
            .mallory
            .call("GetFlightInfo", vec![descriptor])
            .await
            .first()
            .unwrap();
        let told = (
            info.total_records,
            info.total_bytes,
            info.endpoint.len(),
            info.endpoint[0].location.len(),
        );
        let result = if told == (-1, -1, 1, 0) {
            Ok(())
        } else {
            Err(format!("{told:?}"))
        };
        self.add("totals before the answer", "withheld", result);
    }

    async fn with_metadata_commands(&mut self) {
        let tables = |pattern: &str| CommandGetTables {
            table_name_filter_pattern: Some(pattern.to_owned()),
            include_schema: true,
            ..Default::default()
        };
        let hidden = CommandGetPrimaryKeys {
            catalog: Some("siskin".to_owned()),
            db_schema: Some("hall".to_owned()),
            table: "quarantine_register".to_owned(),
        };
        let commands = vec![
            (
                "every table with its schema",
                tables("%").as_any().encode_to_vec(),
            ),
            (
                "tables by a hidden name",
                tables("quarantine%").as_any().encode_to_vec(),
            ),
            (
                "tables by one letter",
                tables("_uarantine_register").as_any().encode_to_vec(),
            ),
            ("catalogues", CommandGetCatalogs {}.as_any().encode_to_vec()),
            (
                "schemas",
                CommandGetDbSchemas::default().as_any().encode_to_vec(),
            ),
            ("keys of a hidden table", hidden.as_any().encode_to_vec()),
            (
                "keys of a table of people",
                CommandGetPrimaryKeys {
                    table: "cases".to_owned(),
                    ..Default::default()
                }
                .as_any()
                .encode_to_vec(),
            ),
            (
                "keys that others have of it",
                CommandGetExportedKeys {
                    table: "cases".to_owned(),
                    ..Default::default()
                }
                .as_any()
                .encode_to_vec(),
            ),
            (
                "keys between two tables",
                CommandGetCrossReference {
                    pk_table: "cases".to_owned(),
                    fk_table: "quarantine_register".to_owned(),
                    ..Default::default()
                }
                .as_any()
                .encode_to_vec(),
            ),
            (
                "what the server is",
                CommandGetSqlInfo::default().as_any().encode_to_vec(),
            ),
        ];
        for (name, command) in commands {
            // The pattern is the attacker's own word; what comes back is searched for it all the same, but for its echo.
            let asked = String::from_utf8_lossy(&command).into_owned();
            let outcome = self.scene.mallory.command(command).await;
            let mut result = self.scene.clean(&asked, &outcome);
            if let Ok(batch) = &outcome.answer {
                let rows = guildhall_testkit::rows(batch).unwrap();
                result = result.and(self.scene.nothing("", rows.join("\n").as_bytes()));
            }
            self.add(name, "clean", result);
        }
    }

    async fn with_parameters(&mut self) {
        let text = |value: &str| {
            RecordBatch::try_from_iter([("1", Arc::new(StringArray::from(vec![value])) as _)])
                .unwrap()
        };
        let number = |n: i64| {
            RecordBatch::try_from_iter([("1", Arc::new(Int64Array::from(vec![n])) as _)]).unwrap()
        };
        let all = [
            (
                "a condition in a value",
                "SELECT count(*) AS n FROM {c} WHERE ward = $1",
                text("W5' OR '1' = '1"),
                "withheld",
            ),
            (
                "the street of three as a value",
                "SELECT count(*) AS n FROM {c} WHERE street = $1",
                text("Hoopoe Cut"),
                "withheld",
            ),
            (
                "a person as a value",
                "SELECT count(*) AS n FROM {c} WHERE person = $1",
                text("P-7Q2MZEBEDEE"),
                "refused",
            ),
            (
                "a name as a value",
                "SELECT count(*) AS n FROM {c} WHERE name = $1",
                text("Zebedee Quillfeather"),
                "refused",
            ),
            (
                "a range as a value",
                "SELECT count(*) AS n FROM {c} WHERE hours > $1",
                number(98_765_430),
                "refused",
            ),
            (
                "a unit of time as a value",
                "SELECT count(*) AS n FROM {c} GROUP BY date_trunc($1, opened)",
                text("minute"),
                "refused",
            ),
            (
                "a secret as a value",
                "SELECT permit FROM {p} WHERE vehicle = $1",
                text("CNRY 5IN6"),
                "refused",
            ),
            (
                "a sealed row as a value",
                "SELECT amount FROM {b} WHERE booking = $1",
                number(5_000_001),
                "withheld",
            ),
        ];
        for (name, sql, batch, verdict) in all {
            let sql = fill(sql);
            let outcome = self.bound(&sql, batch).await;
            let named = format!("{sql} W5 Hoopoe Cut P-7Q2MZEBEDEE Zebedee Quillfeather CNRY 5IN6");
            let result = self.scene.clean(&named, &outcome).and_then(|()| {
                match (&outcome.answer, verdict) {
                    (Err((Code::PermissionDenied | Code::InvalidArgument, _)), "refused") => Ok(()),
                    (Ok(batch), "withheld")
                        if batch.columns().iter().all(|c| c.null_count() == c.len()) =>
                    {
                        Ok(())
                    }
                    (other, _) => Err(format!("{other:?}")),
                }
            });
            self.add(name, verdict, result);
        }
    }

    /// Prepares `sql`, binds `batch` and runs it.
    async fn bound(&self, sql: &str, batch: RecordBatch) -> Outcome {
        let mallory = &self.scene.mallory;
        let made = mallory.call("DoAction", vec![prepare(sql)]).await;
        let Some(handle) = handle_of(&made) else {
            let answer = Err(made.refused.clone().unwrap());
            return Outcome {
                replies: vec![made],
                answer,
            };
        };
        let command = CommandPreparedStatementQuery {
            prepared_statement_handle: handle.into(),
        };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let messages = FlightDataEncoderBuilder::new()
            .with_flight_descriptor(Some(descriptor))
            .build(stream::iter([Ok(batch)]))
            .map_ok(|d| d.encode_to_vec());
        let messages: Vec<Vec<u8>> = messages.map(Result::unwrap).collect().await;
        let put = mallory.call("DoPut", messages).await;
        let Some(result) = put.first::<PutResult>() else {
            let answer = Err(put.refused.clone().unwrap());
            return Outcome {
                replies: vec![put],
                answer,
            };
        };
        let bound = DoPutPreparedStatementResult::decode(result.app_metadata).unwrap();
        let command = CommandPreparedStatementQuery {
            prepared_statement_handle: bound.prepared_statement_handle.unwrap(),
        };
        mallory.command(command.as_any().encode_to_vec()).await
    }

    async fn as_somebody_else(&mut self) {
        let scene = self.scene;
        let hidden = fill("SELECT * FROM {r}");
        let cells = fill(CELLS);
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
            self.refused(name, outcome.replies.last().unwrap(), codes);
        }
    }
}
