//! Below the statements: calls, tickets, handles, parameters and headers as no client of ours would send them.

mod callers;
mod tickets;

use crate::judge::{Finding, Scene};
use crate::table::fill;
use crate::wire::{Reply, action, statement};
use arrow_flight::sql::{
    Any, CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys,
    CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTables, CommandStatementIngest,
    CommandStatementSubstraitPlan, CommandStatementUpdate, ProstMessageExt as _, SubstraitPlan,
};
use arrow_flight::{Criteria, FlightData, FlightDescriptor, FlightInfo};
use prost::Message as _;
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
        let finding = Finding::of("protocol", name, verdict, false, result);
        self.findings.push(finding);
    }

    /// `reply` must be a refusal with one of `codes`, clean.
    fn refused(&mut self, name: &str, reply: &Reply, codes: &[Code]) {
        self.refused_to(name, "", reply, codes);
    }

    /// The same, where the attacker said `asked`, whose names may come back.
    fn refused_to(&mut self, name: &str, asked: &str, reply: &Reply, codes: &[Code]) {
        let result =
            self.scene
                .nothing(asked, &reply.bytes())
                .and_then(|()| match &reply.refused {
                    Some((code, _)) if codes.contains(code) => Ok(()),
                    other => Err(format!("{other:?}, {} messages", reply.messages.len())),
                });
        self.add(name, "refused", result);
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
}
