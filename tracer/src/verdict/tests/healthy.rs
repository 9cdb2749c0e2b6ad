//! Healthy applications of any shape, made by chance: nothing `certain` is ever said of them, and nothing `likely`.
//!
//! An application is up to three parts, which share a server: pools of every order, size and load, with and
//! without limits of age and idleness; requests with a connection of their own; workers with one each; pools that are
//! filled one by one; listeners. Time is compressed as in
//! the corpus: `--idle` is two seconds, and it is looked twice a second.

use proptest::{collection::vec, prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

use super::*;
use crate::server::wire::{Identity, Purpose};
use crate::verdict::look_until;

const STEP: Nanos = 100 * MS;
const IDLE: Nanos = 2 * SECOND;

/// In which order a pool hands out.
#[derive(Clone, Copy, Debug)]
enum Order {
    Queue,
    Stack,
    List,
    Random,
}

/// How many requests there are at once, over time. Numbers are steps.
#[derive(Clone, Copy, Debug)]
enum Load {
    Steady(usize),
    Bursts { every: u64, at_once: usize },
    Rising { each: u64 },
    Falling { from: usize, each: u64 },
    Nights { work: u64, rest: u64, at_once: usize },
    Noise { at_most: usize, seed: u64 },
}

impl Load {
    fn at(self, step: u64) -> usize {
        let small = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        match self {
            Self::Steady(at_once) => at_once,
            Self::Bursts { every, at_once } => {
                if step.is_multiple_of(every) {
                    at_once
                } else {
                    0
                }
            }
            Self::Rising { each } => small(1 + step / each),
            Self::Falling { from, each } => from.saturating_sub(small(step / each)),
            Self::Nights { work, rest, at_once } => {
                if step % (work + rest) < work {
                    at_once
                } else {
                    0
                }
            }
            Self::Noise { at_most, seed } => small(noise(seed ^ step)) % (at_most + 1),
        }
    }
}

/// A number that looks like chance (splitmix64).
fn noise(seed: u64) -> u64 {
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ mixed >> 27) >> 16
}

#[derive(Clone, Copy, Debug)]
struct PoolPlan {
    order: Order,
    /// Idle connections that it keeps.
    minimum: usize,
    /// Connections that it opens at most, more than the minimum.
    more: usize,
    /// Steps until a connection is replaced.
    lifetime: Option<u64>,
    /// Steps until a connection that rests is closed.
    idle_timeout: Option<u64>,
    /// Steps between two health checks of all that rest.
    ping: Option<u64>,
    load: Load,
    /// When its first request comes.
    begins: u64,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Pool(PoolPlan),
    /// A connection for each request, closed after so many steps.
    Short {
        every: u64,
        open_for: u64,
    },
    /// A connection that is used once and never again.
    Leak {
        every: u64,
        begins: u64,
    },
    /// Connections of one worker each, that come up one by one; each worker works now and then. All have come up within
    /// 2.5 times `--idle`, and they rest for twice as long at most: beyond that they are a blind spot of the leak rule.
    Workers {
        count: u64,
        every: u64,
        rest: u64,
    },
    /// A stack that is filled one by one, with a pause, and used from its top then.
    WarmUp {
        count: u64,
        every: u64,
        rest: u64,
    },
    /// A visitor each so many steps, with a connection of his own: so many uses, pauses of up to so many steps between
    /// them, and it is closed so many steps after the last.
    Sessions {
        every: u64,
        uses: u64,
        pause: u64,
        linger: u64,
    },
    /// A pool of so many, all in use, that is made anew each so many steps; the old one is closed so many steps later.
    Generations {
        size: u64,
        every: u64,
        grace: u64,
    },
    /// Connections that wait for news, opened one by one: two at most, since three that come up more than `--idle`
    /// apart are a blind spot of the leak rule.
    Listeners {
        count: u64,
        every: u64,
        purpose: bool,
    },
}

const ORDERED: &[Order] = &[Order::Queue, Order::Stack, Order::List];
const ANY: &[Order] = &[Order::Queue, Order::Stack, Order::List, Order::Random];

fn load() -> impl Strategy<Value = Load> {
    prop_oneof![
        (1..6usize).prop_map(Load::Steady),
        (3..80u64, 1..12usize).prop_map(|(every, at_once)| Load::Bursts { every, at_once }),
        (5..60u64).prop_map(|each| Load::Rising { each }),
        (2..16usize, 5..60u64).prop_map(|(from, each)| Load::Falling { from, each }),
        (3..60u64, 10..150u64, 1..10usize).prop_map(|(work, rest, at_once)| Load::Nights {
            work,
            rest,
            at_once
        }),
        (1..12usize, any::<u64>()).prop_map(|(at_most, seed)| Load::Noise { at_most, seed }),
    ]
}

fn pool(orders: &'static [Order]) -> impl Strategy<Value = PoolPlan> {
    let sometimes = |range: std::ops::Range<u64>| prop::option::of(range);
    (
        prop::sample::select(orders),
        0..10usize,
        0..15usize,
        sometimes(30..300),
        sometimes(15..200),
        sometimes(10..150),
        load(),
        0..100u64,
    )
        .prop_map(
            |(order, minimum, more, lifetime, idle_timeout, ping, load, begins)| PoolPlan {
                order,
                minimum,
                more: more.max(usize::from(minimum == 0)),
                lifetime,
                idle_timeout,
                ping,
                load,
                begins,
            },
        )
}

fn part(orders: &'static [Order]) -> impl Strategy<Value = Part> {
    prop_oneof![
        6 => pool(orders).prop_map(Part::Pool),
        1 => (1..20u64, 1..40u64).prop_map(|(every, open_for)| Part::Short { every, open_for }),
        1 => (1..9u64, 1..6u64, 5..40u64)
            .prop_map(|(count, every, rest)| Part::Workers { count, every, rest }),
        1 => (2..14u64, 1..4u64, 5..90u64)
            .prop_map(|(count, every, rest)| Part::WarmUp { count, every, rest }),
        1 => (1..3u64, 1..30u64, any::<bool>())
            .prop_map(|(count, every, purpose)| Part::Listeners { count, every, purpose }),
    ]
}

/// Visitors or generations, and perhaps something beside.
fn replaced() -> impl Strategy<Value = Vec<Part>> {
    let one = prop_oneof![
        (2..15u64, 1..6u64, 2..60u64, 0..20u64).prop_map(|(every, uses, pause, linger)| Part::Sessions {
            every,
            uses,
            pause,
            linger
        }),
        (1..7u64, 10..60u64, 0..50u64).prop_map(|(size, every, grace)| Part::Generations {
            size,
            every,
            grace
        }),
    ];
    (one, prop::option::of(part(ORDERED)))
        .prop_map(|(one, beside)| [Some(one), beside].into_iter().flatten().collect())
}

/// A connection of a pool.
#[derive(Clone, Copy, Debug)]
struct Pooled {
    cookie: Cookie,
    born: u64,
    used: u64,
}

#[derive(Debug, Default)]
struct Pool {
    idle: Vec<Pooled>,
    busy: Vec<Pooled>,
}

impl Pool {
    fn step(&mut self, world: &mut World, plan: &PoolPlan, step: u64) {
        // What was taken a step ago comes back.
        for mut back in self.busy.drain(..) {
            world.answer(back.cookie);
            back.used = step;
            self.idle.push(back);
        }
        let age = |pooled: &Pooled| step - pooled.born;
        self.close(world, |pooled| {
            plan.lifetime.is_some_and(|limit| age(pooled) >= limit)
        });
        // The one that has rested longest goes first, and never more than what is kept.
        while self.idle.len() > plan.minimum
            && let Some(place) = self
                .idle
                .iter()
                .position(|pooled| plan.idle_timeout.is_some_and(|limit| step - pooled.used >= limit))
        {
            let over = self.idle.remove(place);
            world.close(over.cookie);
        }
        let wanted = plan.load.at(step);
        for number in 0..wanted {
            let taken = self.take(plan.order, step ^ number as u64).or_else(|| {
                let room = self.busy.len() < plan.minimum + plan.more;
                room.then(|| Self::open(world, step))
            });
            let Some(mut taken) = taken else { break };
            taken.used = step;
            world.ask(taken.cookie);
            self.busy.push(taken);
        }
        while self.idle.len() < plan.minimum && self.idle.len() + self.busy.len() < plan.minimum + plan.more {
            let fresh = Self::open(world, step);
            self.idle.push(fresh);
        }
        if plan.ping.is_some_and(|every| step.is_multiple_of(every)) {
            for pooled in &mut self.idle {
                world.query(pooled.cookie);
            }
        }
    }

    fn open(world: &mut World, step: u64) -> Pooled {
        Pooled {
            cookie: world.open(),
            born: step,
            used: step,
        }
    }

    fn close(&mut self, world: &mut World, over: impl Fn(&Pooled) -> bool) {
        let (gone, kept) = self.idle.drain(..).partition(|pooled| over(pooled));
        self.idle = kept;
        let gone: Vec<Pooled> = gone;
        for pooled in gone {
            world.close(pooled.cookie);
        }
    }

    fn take(&mut self, order: Order, chance: u64) -> Option<Pooled> {
        let last = self.idle.len().checked_sub(1)?;
        let place = match order {
            Order::Queue => 0,
            Order::Stack => last,
            Order::List => (0..=last).min_by_key(|&place| self.idle[place].cookie)?,
            Order::Random => usize::try_from(noise(chance)).unwrap_or(0) % (last + 1),
        };
        Some(self.idle.remove(place))
    }
}

/// What was said of an application.
#[derive(Default)]
struct Said {
    /// The surest claim, and at which step it was made.
    claim: Option<(u64, Finding)>,
    /// The step at which a leak was first `likely`.
    likely_leak: Option<u64>,
}

/// An application that runs.
struct Application<'a> {
    world: World,
    parts: &'a [Part],
    pools: Vec<Pool>,
    short: Vec<(u64, Cookie)>,
}

impl<'a> Application<'a> {
    fn new(parts: &'a [Part]) -> Self {
        let mut world = World::unwatched();
        world.policy.idle = IDLE;
        Self {
            world,
            parts,
            pools: parts.iter().map(|_| Pool::default()).collect(),
            short: Vec::new(),
        }
    }

    fn step(&mut self, step: u64) {
        let Self {
            world,
            parts,
            pools,
            short,
        } = self;
        let next = world.now + STEP;
        for (part, pool) in parts.iter().zip(pools) {
            match part {
                Part::Pool(plan) if step >= plan.begins => pool.step(world, plan, step),
                Part::Pool(_) => {}
                Part::Short { every, open_for } => {
                    while short.first().is_some_and(|&(until, _)| until <= step) {
                        let (_, cookie) = short.remove(0);
                        world.close(cookie);
                    }
                    if step.is_multiple_of(*every) {
                        short.push((step + open_for, world.open()));
                    }
                }
                Part::Leak { every, begins } => {
                    if step >= *begins && (step - begins).is_multiple_of(*every) {
                        world.open();
                    }
                }
                Part::Workers { count, every, rest } => {
                    for worker in &pool.idle {
                        if (step - worker.born).is_multiple_of(*rest) {
                            world.query(worker.cookie);
                        }
                    }
                    if step.is_multiple_of(*every) && step / every < *count {
                        pool.idle.push(Pool::open(world, step));
                    }
                }
                Part::WarmUp { count, every, rest } => {
                    if step / every < *count {
                        if step.is_multiple_of(*every) {
                            pool.idle.push(Pool::open(world, step));
                        }
                    } else if step.is_multiple_of(*rest)
                        && let Some(top) = pool.idle.last()
                    {
                        world.query(top.cookie);
                    }
                }
                Part::Sessions {
                    every,
                    uses,
                    pause,
                    linger,
                } => {
                    let when = |session: &Pooled, number: u64| {
                        let pauses = (0..number)
                            .map(|pause_number| 1 + noise(session.born ^ pause_number << 32) % pause);
                        session.born + pauses.sum::<u64>()
                    };
                    pool.close(world, |session| when(session, *uses) + linger <= step);
                    for session in &pool.idle {
                        if (1..=*uses).any(|number| when(session, number) == step) {
                            world.query(session.cookie);
                        }
                    }
                    if step.is_multiple_of(*every) {
                        pool.idle.push(Pool::open(world, step));
                    }
                }
                Part::Generations { size, every, grace } => {
                    pool.close(world, |old| old.born + every + grace <= step);
                    if step.is_multiple_of(*every) {
                        pool.idle.extend((0..*size).map(|_| Pool::open(world, step)));
                    }
                    for current in pool.idle.iter().filter(|one| one.born + every > step) {
                        world.query(current.cookie);
                    }
                }
                Part::Listeners {
                    count,
                    every,
                    purpose,
                } => {
                    if step.is_multiple_of(*every) && step / every < *count {
                        listener(world, step, *purpose);
                    }
                }
            }
        }
        world.wait(next.saturating_sub(world.now));
    }
}

fn listener(world: &mut World, step: u64, says_so: bool) {
    let cookie = world.open();
    if says_so {
        world.says(
            cookie,
            Identity {
                purpose: Some(Purpose::Listener),
                channel: Some(format!("topic {step}")),
                ..Identity::default()
            },
        );
    }
}

/// Lives for so many steps.
fn live(parts: &[Part], attach: u64, steps: u64) -> Said {
    let mut application = Application::new(parts);
    let mut said = Said::default();
    for step in 0..steps {
        if step == attach {
            application.world.attach();
        }
        application.step(step);
        if step > attach && step % 5 == 0 {
            for finding in application.world.findings() {
                if finding.kind == Kind::Leak && finding.confidence > Confidence::Suspect {
                    said.likely_leak.get_or_insert(step);
                }
                let surest = said.claim.as_ref().map(|(_, known)| known.confidence);
                if Some(finding.confidence) > surest {
                    said.claim = Some((step, finding));
                }
            }
        }
    }
    said
}

/// What `connleak scan` says in the end that begins at this step.
fn scan(parts: &[Part], begins: u64) -> Vec<Finding> {
    let mut application = Application::new(parts);
    for step in 0..begins {
        application.step(step);
    }
    application.world.policy.single_look = true;
    application.world.attach();
    let mut findings = application.world.findings();
    for looks in 1..=8 {
        let world = &application.world;
        let open = look_until(&world.ledger, world.now, &world.policy);
        if findings.is_empty() || looks > 2 && open.is_none_or(|until| until > 2 * SECOND) {
            break;
        }
        for step in 0..3 {
            application.step(begins + 3 * looks + step - 3);
        }
        findings = application.world.findings();
    }
    findings
}

/// So many applications, always the same ones: what is claimed of them is counted, and a count must not depend on luck.
fn applications(count: usize, orders: &'static [Order]) -> Vec<(Vec<Part>, u64)> {
    the_same(count, &(vec(part(orders), 1..4), prop_oneof![Just(0), 0..150u64]))
}

/// The same of anything, each with the step at which the agent is attached.
fn the_same(count: usize, strategy: &impl Strategy<Value = (Vec<Part>, u64)>) -> Vec<(Vec<Part>, u64)> {
    let mut runner = TestRunner::deterministic();
    let one = |_| strategy.new_tree(&mut runner).expect("an application").current();
    (0..count).map(one).collect()
}

/// What is claimed with this confidence or a higher one, in words.
fn claims(all: &[(Vec<Part>, u64)], least: Confidence) -> Vec<String> {
    let claim = |(parts, attach): &(Vec<Part>, u64)| {
        let (step, finding) = live(parts, *attach, 400).claim?;
        (finding.confidence >= least).then(|| {
            let said = (finding.confidence, finding.kind, finding.because, finding.but);
            format!("at {step}: {said:?}: attached at {attach} to {parts:?}")
        })
    };
    all.iter().filter_map(claim).collect()
}

#[test]
fn of_healthy_applications_whose_pools_have_an_order_three_in_two_hundred_at_most_are_claimed() {
    let all = applications(400, ORDERED);
    let claims = claims(&all, Confidence::Likely);
    assert!(claims.len() * 200 <= all.len() * 3, "{claims:#?}");
}

#[test]
fn of_visitors_and_of_pools_that_are_replaced_three_in_two_hundred_at_most_are_claimed() {
    let all = the_same(400, &(replaced(), prop_oneof![1 => Just(0), 3 => 0..200u64]));
    let claims = claims(&all, Confidence::Likely);
    assert!(
        claims.len() * 200 <= all.len() * 3,
        "{} {claims:#?}",
        claims.len()
    );
}

/// Those that hand out at random are a blind spot of `unreturned`, which is never certain.
#[test]
fn nothing_is_certain_of_healthy_pools() {
    let claims = claims(&applications(120, ANY), Confidence::Certain);
    assert!(claims.is_empty(), "{claims:#?}");
}

#[test]
fn a_leak_beside_healthy_pools_of_one_identity_is_named_in_nine_cases_of_ten() {
    let paces = [4u64, 7, 9, 13, 17, 22, 31];
    let all = applications(84, ORDERED);
    let mut late = Vec::new();
    for (number, (mut parts, attach)) in all.iter().cloned().enumerate() {
        let every = paces[number % paces.len()];
        let begins = 20 * (number as u64 % 4);
        parts.push(Part::Leak { every, begins });
        let third = (begins + 2 * every).max(attach);
        let named = live(&parts, attach, 400).likely_leak;
        if named.is_none() {
            late.push(format!(
                "one each {every} steps from {begins}, third at {third}, named {named:?}: {parts:?}"
            ));
        }
    }
    assert!(late.len() * 10 <= all.len(), "{} {late:#?}", late.len());
}

#[test]
fn a_scan_of_healthy_applications_claims_one_in_a_hundred_at_most() {
    let moments = [25, 50, 90, 160, 310];
    let all = applications(300, ORDERED);
    let claims: Vec<String> = all
        .iter()
        .zip(moments.iter().cycle())
        .filter_map(|((parts, _), &moment)| {
            let findings = scan(parts, moment);
            let claim = findings
                .iter()
                .find(|finding| finding.confidence > Confidence::Suspect)?;
            let said = (claim.kind, claim.sockets.len(), &claim.because, &claim.but);
            Some(format!("at {moment}: {said:?}: {parts:?}"))
        })
        .collect();
    assert!(claims.len() * 100 <= all.len(), "{claims:#?}");
}

#[test]
fn a_scan_names_a_leak_that_goes_on() {
    let alone = [4u64, 7, 9].map(|every| scan(&[Part::Leak { every, begins: 0 }], 20 * every));
    for findings in alone {
        let [finding] = findings.as_slice() else {
            panic!("one finding, not {findings:#?}");
        };
        assert_eq!(
            (finding.kind, finding.confidence),
            (Kind::Leak, Confidence::Likely)
        );
    }
}
