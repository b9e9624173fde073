//! The rows of the tables about whoever asks.

use crate::backend::{Backend, Party, PartyError};
use crate::granted::Asker;
use crate::refusals::Refused;
use arrow::array::{
    ArrayRef, Decimal128Array, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::error::ArrowError;
use futures::future::join_all;
use guildhall_model::{CouncilName, Purpose};
use guildhall_plan::catalogue::OwnTable;
use guildhall_plan::privacy::epsilon;
use guildhall_proto::authority::v1::ProductBudget;
use std::sync::Arc;

/// One budget, and whose and what for.
type Stated = (CouncilName, Purpose, ProductBudget);

/// The budgets of what the asker may see, at every council, for every purpose that it holds; and who did not tell.
///
/// A council that knows nothing of the asker, or of a purpose, has none for it.
pub(crate) async fn budgets(
    backend: &dyn Backend,
    asker: &Asker,
) -> (Vec<Stated>, Vec<PartyError>) {
    let asked = asker.councils.iter().flat_map(|council| {
        let purposes = asker.caller.purposes().iter();
        purposes.map(move |purpose| (council, purpose))
    });
    let told = asked.map(|(council, purpose)| async move {
        let credential = asker.caller.credential.clone();
        let told = backend.budgets(council, credential, purpose).await;
        (council, purpose, told)
    });
    let (mut stated, mut failed) = (Vec::new(), Vec::new());
    for (council, purpose, told) in join_all(told).await {
        match told {
            Ok(budgets) => stated.extend(
                budgets
                    .into_iter()
                    .map(|b| (council.clone(), purpose.clone(), b)),
            ),
            Err(PartyError::Refused { .. }) => {}
            Err(e) => failed.push(e),
        }
    }
    (stated, failed)
}

/// The council whose authority did not answer, if that is what happened.
pub(crate) fn away(error: &PartyError) -> Option<String> {
    match error {
        PartyError::Away(Party::Authority(council)) => Some(council.to_string()),
        _ => None,
    }
}

/// Budgets as rows of [`OwnTable::Budget`].
pub(crate) fn budget_rows(stated: &[Stated]) -> Result<RecordBatch, ArrowError> {
    let text = |of: fn(&Stated) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(stated.iter().map(of)))
    };
    let rho = |of: fn(&ProductBudget) -> u64| -> Result<ArrayRef, ArrowError> {
        let nano = stated.iter().map(|(_, _, b)| i128::from(of(b)));
        let nano = Decimal128Array::from_iter_values(nano).with_precision_and_scale(20, 9)?;
        Ok(Arc::new(nano))
    };
    let in_epsilon = |of: fn(&ProductBudget) -> u64| -> ArrayRef {
        let values = stated.iter().map(|(_, _, b)| epsilon(of(b)));
        Arc::new(Float64Array::from_iter_values(values))
    };
    let time = |of: fn(&ProductBudget) -> i64| -> ArrayRef {
        let times = stated.iter().map(|(_, _, b)| of(b));
        Arc::new(TimestampMicrosecondArray::from_iter_values(times))
    };
    let columns = vec![
        text(|(council, _, _)| council.as_str()),
        text(|(_, _, b)| &b.department),
        text(|(_, _, b)| &b.product),
        text(|(_, purpose, _)| purpose.as_str()),
        rho(|b| b.limit_nano_rho)?,
        rho(|b| b.spent_nano_rho)?,
        rho(|b| b.limit_nano_rho.saturating_sub(b.spent_nano_rho))?,
        rho(|b| b.per_query_nano_rho)?,
        in_epsilon(|b| b.limit_nano_rho),
        in_epsilon(|b| b.spent_nano_rho),
        time(|b| b.period_start_us),
        time(|b| b.period_end_us),
    ];
    RecordBatch::try_new(OwnTable::Budget.schema(), columns)
}

/// Refusals as rows of [`OwnTable::Refusals`].
pub(crate) fn refusal_rows(refused: &[Refused]) -> Result<RecordBatch, ArrowError> {
    let times = refused.iter().map(|r| r.at.as_micros());
    let rules = refused.iter().map(|r| r.rule.as_str());
    let instead = refused.iter().map(|r| Some(r.instead.as_str()));
    let instead: StringArray = instead.map(|i| i.filter(|i| !i.is_empty())).collect();
    RecordBatch::try_new(
        OwnTable::Refusals.schema(),
        vec![
            Arc::new(TimestampMicrosecondArray::from_iter_values(times)),
            Arc::new(StringArray::from_iter_values(rules)),
            Arc::new(instead),
        ],
    )
}
