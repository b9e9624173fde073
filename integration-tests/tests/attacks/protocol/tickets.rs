//! What was handed out, to others and before: tickets, handles, parameters.

use super::{CELLS, Tried};
use crate::table::fill;
use crate::wire::{Attacker, Outcome, action, handle_of, prepare, statement};
use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::sql::{
    ActionCancelQueryRequest, CommandPreparedStatementQuery, DoPutPreparedStatementResult,
    ProstMessageExt as _, TicketStatementQuery,
};
use arrow_flight::{FlightDescriptor, FlightInfo, PutResult, Ticket};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;
use std::sync::Arc;
use tonic::Code;

impl Tried<'_> {
    pub(super) async fn with_tickets_of_others(&mut self) {
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

    pub(super) async fn with_parameters(&mut self) {
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
}
