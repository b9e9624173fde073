//! Many who charge at once, and an authority that is killed while they do.
//!
//! `GUILDHALL_CASES` says how many questions are charged; ten thousand if it is not set.

use super::debiting::{leave_of, request};
use super::*;
use futures::future::join_all;
use guildhall_audit::{Decision, Event};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

const TASKS: u64 = 64;
const CHARGE: u64 = 7;

fn cases(otherwise: u64) -> u64 {
    std::env::var("GUILDHALL_CASES").map_or(otherwise, |n| n.parse().unwrap())
}

/// The product whose budget is exactly `questions` charges.
fn product(town: &Town, questions: u64) -> Product {
    town.budgeted(questions * CHARGE)
}

/// Charges question `number` under a grant of its own.
async fn charge(
    state: &State,
    product: &Product,
    number: u64,
) -> Result<wire::DebitResponse, Refusal> {
    let grant = Grant {
        id: format!("g-{number}").parse().unwrap(),
        ..leave_of(state, product)
    };
    let request = request(&grant, &state.signing, &number.to_string(), CHARGE);
    state.debit(&product.node, request).await
}

/// Charges questions from `next` on, many at once, until the budget is spent or `end` is reached;
/// `paid` hears of each that was charged.
async fn charge_on(
    states: &[Arc<State>],
    product: &Product,
    next: &Arc<AtomicU64>,
    end: u64,
    paid: fn(u64),
) {
    let tasks = (0..TASKS).zip(states.iter().cycle()).map(|(_, state)| {
        let (state, product, next) = (Arc::clone(state), product.clone(), Arc::clone(next));
        guildhall_telemetry::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::SeqCst);
                if number >= end {
                    return;
                }
                match charge(&state, &product, number).await {
                    Ok(charged) => {
                        assert_eq!(charged.charged_nano_rho, CHARGE);
                        paid(number);
                    }
                    Err(Refusal::Budget { .. }) => return,
                    Err(other) => panic!("{other}"),
                }
            }
        })
    });
    for task in join_all(tasks).await {
        task.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_spend_a_budget_to_its_limit_and_not_beyond() {
    static PAID: AtomicU64 = AtomicU64::new(0);
    let questions = cases(10_000) / 4;
    let town = Town::new().await;
    let product = product(&town, questions);
    town.register(&product).await.unwrap();
    // Two authorities over one database: what is spent is nowhere but there.
    let other = unlock(town.dir.path(), "northmoor", &town.clock);
    let states = [Arc::clone(&town.state), other];
    let next = Arc::new(AtomicU64::new(0));
    let paid = |_| {
        PAID.fetch_add(1, Ordering::SeqCst);
    };
    charge_on(&states, &product, &next, u64::MAX, paid).await;

    assert_eq!(PAID.load(Ordering::SeqCst), questions);
    let sum = town.admin().verify_ledger().unwrap();
    assert_eq!(
        (sum.debits, sum.charged.get()),
        (questions, questions * CHARGE)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_limit_binds_every_charge_after_it_is_registered() {
    let town = Town::new().await;
    let wide = product(&town, 100_000);
    town.register(&wide).await.unwrap();
    let narrow = Product {
        name: "stays".parse().unwrap(),
        budgets: vec![budget("planning", 200 * CHARGE)],
        ..town.product()
    };
    let (states, next) = ([Arc::clone(&town.state)], Arc::new(AtomicU64::new(0)));
    let charging = charge_on(&states, &wide, &next, 2_000, |_| ());
    let registering = async {
        while next.load(Ordering::SeqCst) < 300 {
            tokio::task::yield_now().await;
        }
        town.register(&narrow).await.unwrap();
    };
    tokio::join!(charging, registering);
    let log = town.log();
    let (before, after): (Vec<_>, Vec<_>) = {
        let at = log.iter().rposition(|e| e.event == Event::RegisterProduct);
        let (before, after) = log.split_at(at.unwrap());
        let paid = |entries: &[Entry]| {
            let paid = entries.iter().filter(|e| e.event == Event::Debit);
            paid.filter(|e| e.decision == Decision::Permit)
                .map(|e| e.charge)
                .collect()
        };
        (paid(before), paid(after))
    };
    let (before, after): (u64, u64) = (before.iter().sum(), after.iter().sum());
    assert!(
        after == 0 || before + after <= 200 * CHARGE,
        "{before} + {after}"
    );
    assert_eq!(
        town.admin().verify_ledger().unwrap().charged.get(),
        before + after
    );
}

/// Where the child that is to be killed finds its authority.
const CHILD: &str = "GUILDHALL_LEDGER_CHILD";

/// What it says of each question that it was told is charged.
const PAID: &str = "paid ";

#[test]
fn what_was_acknowledged_before_a_kill_is_charged_once_and_nothing_beyond_the_limit() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    match std::env::var(CHILD) {
        Ok(task) => runtime.block_on(charge_until_killed(&task)),
        Err(_) => kill_again_and_again(&runtime),
    }
}

/// Charges questions from the first on, of which the task says where and which.
async fn charge_until_killed(task: &str) {
    let [dir, first, questions] = *task.split('\n').collect::<Vec<_>>() else {
        panic!("no task: {task}");
    };
    let clock = MockClock::at(Timestamp::from_micros(1_795_000_000_000_000));
    let state = unlock(Path::new(dir), "northmoor", &clock);
    let registered = state.register().unwrap();
    let product = &registered.products().next().unwrap().product;
    let next = Arc::new(AtomicU64::new(first.parse().unwrap()));
    assert_eq!(
        product.budgets[0].rho.get(),
        questions.parse::<u64>().unwrap() * CHARGE
    );
    charge_on(&[state], product, &next, u64::MAX, |number| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{PAID}{number}").unwrap();
        out.flush().unwrap();
    })
    .await;
}

/// Runs the child from question `first` and kills it once it has acknowledged `after` questions;
/// those that it did.
fn run_and_kill(dir: &Path, first: u64, questions: u64, after: u64) -> Vec<u64> {
    let test = "tests::killing::what_was_acknowledged_before_a_kill_is_charged_once_and_nothing_beyond_the_limit";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{}\n{first}\n{questions}", dir.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let (mut paid, mut line) = (Vec::new(), String::new());
    while lines.read_line(&mut line).unwrap() > 0 {
        if let Some(number) = line.strip_suffix('\n').and_then(|l| l.strip_prefix(PAID)) {
            paid.push(number.parse().unwrap());
            // Killed once; what it said before is still in the pipe.
            if u64::try_from(paid.len()).unwrap() == after {
                child.kill().unwrap();
            }
        }
        line.clear();
    }
    let ended = child.wait().unwrap();
    assert!(ended.success() || u64::try_from(paid.len()).unwrap() >= after);
    paid
}

fn kill_again_and_again(runtime: &tokio::runtime::Runtime) {
    let questions = cases(10_000);
    let town = runtime.block_on(async {
        let town = Town::new().await;
        town.register(&product(&town, questions)).await.unwrap();
        town
    });
    let (mut paid, mut first, mut kills) = (BTreeSet::new(), 0, 0_u64);
    let mut random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u8);
    while spent(&town) < questions * CHARGE {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // From the first charge to a tenth of all.
        let after = 1 + (random >> 33) % (questions / 10);
        let told = run_and_kill(town.dir.path(), first, questions, after);
        kills += 1;
        for number in told {
            assert!(paid.insert(number), "{number} was charged twice");
        }
        // Beyond whatever was under way.
        first = paid.last().map_or(first, |l| l + 1) + 2 * TASKS;
        assert!(spent(&town) >= u64::try_from(paid.len()).unwrap() * CHARGE);
    }
    on_record(&town, &paid);
    println!(
        "{questions} questions, {} acknowledged, {kills} lives",
        paid.len()
    );
    assert!(kills > 2);
}

fn spent(town: &Town) -> u64 {
    town.admin().budgets(town.clock.now()).unwrap()[0]
        .spent
        .get()
}

/// Every acknowledged question is charged; ledger and log bear each other out, entry for entry.
fn on_record(town: &Town, paid: &BTreeSet<u64>) {
    let admin = town.admin();
    let sum = admin.verify_ledger().unwrap();
    assert_eq!(sum.charged.get(), sum.debits * CHARGE);
    assert_eq!(sum.charged.get(), spent(town));
    let charged: BTreeSet<Vec<u8>> = admin
        .connection()
        .prepare("SELECT question FROM debits")
        .unwrap()
        .query_map([], |r| r.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let digest = |n: &u64| Digest::of(n.to_string().as_bytes()).as_bytes().to_vec();
    let lost = paid.iter().find(|n| !charged.contains(&digest(n)));
    assert_eq!(lost, None, "acknowledged, and not on record");
    let entries = town.log();
    let charges = entries
        .iter()
        .filter(|e| e.event == Event::Debit && e.decision == Decision::Permit);
    assert_eq!(
        u64::try_from(charges.count()).unwrap(),
        sum.debits,
        "one entry a charge"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "a measurement"]
async fn how_many_questions_are_charged_in_a_second() {
    let questions = cases(10_000);
    let town = Town::new().await;
    let product = product(&town, questions);
    town.register(&product).await.unwrap();
    let (states, next) = ([Arc::clone(&town.state)], Arc::new(AtomicU64::new(0)));
    let start = std::time::Instant::now();
    charge_on(&states, &product, &next, questions, |_| ()).await;
    let many = start.elapsed();
    println!(
        "{:.0} a second, {TASKS} at once",
        questions as f64 / many.as_secs_f64()
    );
    let refused = charge(&town.state, &product, questions).await;
    assert!(matches!(refused, Err(Refusal::Budget { .. })));
}
