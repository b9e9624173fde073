//! DoAction: prepared statements, cancelling, session options.

use super::messages::{
    CloseSessionResult, CloseStatus, ErrorValue, GetSessionOptionsResult, OptionValue,
    SessionOptionValue, SetError, SetSessionOptionsRequest, SetSessionOptionsResult,
};
use super::{Call, Inner, new_query_id, no_transaction, substrait, transactions};
use crate::error::DoorError;
use crate::session::Setting;
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, Any, ProstMessageExt,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightEndpoint,
    FlightInfo, RenewFlightEndpointRequest,
};
use guildhall_plan::catalogue::CITY;
use prost::Message;
use std::collections::HashMap;
use tonic::Status;

/// The session option by which Flight tells the current catalogue.
const CATALOG: &str = "catalog";

/// The actions that do something, with a line each.
pub(super) const OFFERED: &[(&str, &str)] = &[
    (
        "CreatePreparedStatement",
        "Plans a statement and returns its schemas; nothing runs.",
    ),
    (
        "ClosePreparedStatement",
        "Says that a handle is not needed any more.",
    ),
    ("CancelFlightInfo", "Ends a query of your own."),
    (
        "CancelQuery",
        "Ends a query of your own; CancelFlightInfo is its newer name.",
    ),
    (
        "RenewFlightEndpoint",
        "Gives an endpoint of your own more time.",
    ),
    (
        "SetSessionOptions",
        "Sets guildhall.purpose, guildhall.partial and guildhall.cell_status for the session.",
    ),
    ("GetSessionOptions", "Tells the session's options."),
    ("CloseSession", "Forgets the session."),
];

/// Carries out an action; the bodies of its results.
pub(super) async fn act(
    inner: &Inner,
    call: &Call,
    action: Action,
) -> Result<Vec<Vec<u8>>, Status> {
    let query = new_query_id()?;
    dispatch(inner, call, action)
        .await
        .map_err(|e| e.about(&query))
}

async fn dispatch(inner: &Inner, call: &Call, action: Action) -> Result<Vec<Vec<u8>>, DoorError> {
    let body = action.body;
    match action.r#type.as_str() {
        "CreatePreparedStatement" => {
            let request: ActionCreatePreparedStatementRequest = packed(&body)?;
            no_transaction(request.transaction_id.as_deref())?;
            let prepared = inner.prepare(call, request.query).await;
            let prepared = inner.engine.noted(&call.caller, prepared)?;
            Ok(vec![prepared.as_any().encode_to_vec()])
        }
        "ClosePreparedStatement" => {
            // Handles hold everything themselves: there is nothing here to close.
            let _: ActionClosePreparedStatementRequest = packed(&body)?;
            Ok(Vec::new())
        }
        "CancelFlightInfo" => {
            let request: CancelFlightInfoRequest = plain(&body)?;
            cancel(inner, call, request.info.unwrap_or_default())?;
            Ok(vec![
                CancelFlightInfoResult {
                    status: CancelStatus::Cancelled as i32,
                }
                .encode_to_vec(),
            ])
        }
        "CancelQuery" => {
            let request: ActionCancelQueryRequest = packed(&body)?;
            cancel(inner, call, plain(&request.info)?)?;
            // CANCEL_RESULT_CANCELLED
            Ok(vec![
                ActionCancelQueryResult { result: 1 }
                    .as_any()
                    .encode_to_vec(),
            ])
        }
        "RenewFlightEndpoint" => {
            let request: RenewFlightEndpointRequest = plain(&body)?;
            Ok(vec![
                renew(inner, call, request.endpoint.unwrap_or_default())?.encode_to_vec(),
            ])
        }
        "SetSessionOptions" => Ok(vec![
            set_options(inner, call, plain(&body)?)
                .await
                .encode_to_vec(),
        ]),
        "GetSessionOptions" => Ok(vec![options(call).encode_to_vec()]),
        "CloseSession" => {
            inner.sessions.close(&call.session).await;
            Ok(vec![
                CloseSessionResult {
                    status: CloseStatus::Closed as i32,
                }
                .encode_to_vec(),
            ])
        }
        "BeginTransaction" | "EndTransaction" | "BeginSavepoint" | "EndSavepoint" => {
            Err(transactions())
        }
        "CreatePreparedSubstraitPlan" => Err(substrait()),
        _ => Err(DoorError::Unsupported(
            "there is no such action\nhelp: ListActions tells those there are",
        )),
    }
}

fn packed<M: ProstMessageExt>(body: &[u8]) -> Result<M, DoorError> {
    let unreadable =
        || DoorError::invalid("the body of the action is not the message it should be");
    Any::decode(body)
        .map_err(|_| unreadable())?
        .unpack()
        .map_err(|_| unreadable())?
        .ok_or_else(unreadable)
}

fn plain<M: Message + Default>(body: &[u8]) -> Result<M, DoorError> {
    M::decode(body)
        .map_err(|_| DoorError::invalid("the body of the action is not the message it should be"))
}

/// Ends the query of every ticket in `info`; each must be the caller's own.
fn cancel(inner: &Inner, call: &Call, info: FlightInfo) -> Result<(), DoorError> {
    let tickets: Vec<_> = info
        .endpoint
        .iter()
        .filter_map(|e| e.ticket.as_ref())
        .collect();
    if tickets.is_empty() {
        return Err(DoorError::invalid(
            "there is no ticket to say which query is meant",
        ));
    }
    for ticket in tickets {
        let (query, _) = inner.open_ticket(call, &ticket.ticket)?;
        inner.engine.cancel(&query, &call.caller.principal);
    }
    Ok(())
}

fn renew(
    inner: &Inner,
    call: &Call,
    endpoint: FlightEndpoint,
) -> Result<FlightEndpoint, DoorError> {
    let ticket = endpoint.ticket.unwrap_or_default();
    let (query, content) = inner.open_ticket(call, &ticket.ticket)?;
    let ticket = crate::ticket::Ticket {
        query: query.to_string(),
        content: Some(content),
    };
    let expires = inner.clock.now().after(inner.engine.limits().ticket_life());
    Ok(inner.endpoint(call, &ticket, expires))
}

async fn set_options(
    inner: &Inner,
    call: &Call,
    request: SetSessionOptionsRequest,
) -> SetSessionOptionsResult {
    let mut errors = HashMap::new();
    for (name, value) in request.session_options {
        let error = match (
            Setting::find(&name),
            value.option_value.as_ref().map(OptionValue::text),
        ) {
            // Some drivers set the catalogue at every connection; there is one to begin in.
            (None, Some(Some(text))) if name == CATALOG => {
                (text != CITY).then_some(ErrorValue::InvalidValue)
            }
            (None, _) => Some(ErrorValue::InvalidName),
            (Some(_), Some(None)) => Some(ErrorValue::InvalidValue),
            // No value takes an option back.
            (Some(setting), text) => {
                let text = text.flatten().unwrap_or_default();
                inner
                    .set(call, setting.name(), &text)
                    .await
                    .err()
                    .map(|_| ErrorValue::InvalidValue)
            }
        };
        if let Some(error) = error {
            errors.insert(
                name,
                SetError {
                    value: error as i32,
                },
            );
        }
    }
    SetSessionOptionsResult { errors }
}

fn options(call: &Call) -> GetSessionOptionsResult {
    let settings = Setting::ALL
        .into_iter()
        .map(|s| (s.name(), call.options.show(s)));
    let session_options = settings
        .chain([(CATALOG, CITY.to_owned())])
        .map(|(name, value)| {
            let option_value = Some(OptionValue::String(value));
            (name.to_owned(), SessionOptionValue { option_value })
        })
        .collect();
    GetSessionOptionsResult { session_options }
}
