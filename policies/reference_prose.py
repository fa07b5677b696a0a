"""The words around the tables of the reference page of the policy YAML: how to read it, and the rules that span fields.

Owns prose only; `reference` puts the generated tables between `HEAD` and `TAIL`.
"""

HEAD = """\
# The policy YAML, `tidegate.dev/v1alpha1`

One document describes one fleet: a model served to one SLO, from a floor that is owned, a burst that is rented and a spill that is paid
by the token. A file may hold several documents, split by `---`; a folder means every `.yaml` and `.yml` file in it.
The document has the shape of a Kubernetes resource, so that the same file can become a custom resource.

    tidegate validate POLICY…             every error at once, with file, line, path, value and what would be right
    tidegate validate --explain POLICY…   also every default in force, and the compiled fleet with its prices per unit of work
    tidegate schema                       the JSON Schema; editors complete with it

Editors that run yaml-language-server complete and check as you type when the file begins with

    # yaml-language-server: $schema=../../docs/schemas/fleet.v1alpha1.schema.json

Examples to start from are in `policies/library/`: `small.yaml`, `deepseek-r1.yaml`, `no-spill.yaml`, `replay-demo.yaml`, `full.yaml`.

## How to write it

- Keys are camelCase. Unknown keys and duplicate keys are errors.
- Durations are text with a unit: `500ms`, `90s`, `5m`, `48h`, `7d`, or joined as `1h30m`. Money and rates have their unit in the key.
- Times are RFC 3339 with an offset: `2026-11-23T17:00:00Z`.
- Names of fleets and offers are DNS labels: lower-case letters, digits and `-`, at most 63.
- A field whose value is empty (`null`) counts as left out. To name a block without settings write `nats: {}`.
- YAML is read in the sense of YAML 1.2: only `true` and `false` are booleans. Anchors and aliases work, merge keys (`<<`) do not.
- Secrets are errors. Name an environment variable (`…Env`) or a mounted file (`…File`) instead.

## The fields

This part is generated from the models; change those.
"""

TAIL = """\
## Rules that span fields

**Unit of work.** Demand, capacity and the spill price are in `demand.unit`. `weightedTokens` are output tokens plus
`inputTokenWeight` × input tokens. `serving.shape`, the mean request, converts between the units; its default is 1024 tokens in, 1024 out.

**Capacity.** `capacityPerSecond` is what one replica carries within the SLO. Left out, it is looked up in the built-in table of measured
serving profiles by model, engine, GPU type, GPUs per replica and precision (`profile` overrides what is looked up): among the operating
points measured at the request shape nearest to `serving.shape`, the largest throughput whose TTFT and ITL are inside the SLO.
Output tokens per second become the demand's unit through `serving.shape`. If `precision` is left out, the slowest measured one that has a
point inside the SLO is taken, and `validate` warns where another has none.
The measured latencies are averages of steady runs: a fleet that promises a high percentile should set `profile.share` below 1 or measure.
What no row covers is an error that says what is measured; state `capacityPerSecond` then. `validate --explain` prints the row and its date.

**Eligible offers.** An offer that cannot serve the fleet is left out of it: nothing is bought from it, what it holds is left alone, and
`validate` (a warning; an error where no offer is left), `profile rank` and every Decision (`ineligible`) say why, with the numbers. It is
worked out once, when the policy is read. What it holds from before is neither ended as orphaned nor seen by a budget, so it is paid beside
`guard.budget` until you end it, or take the offer out of the policy. Two things are asked:

- *Do the GPUs of a replica hold the model?* Its weights in the precision that is served, the KV cache of `serving.memory.concurrency`
  requests of `contextTokens` each, and a tenth of the memory for the runtime (context, communication, graphs, activations; `usableShare`)
  are set against GPUs × memory. DeepSeek-R1 in fp8 has 672.9 GB of weights: 8 × H100 have 684.2 GB, 615.7 GB of it usable, and are not
  eligible; 8 × H200 with 1085.4 GB usable are. Sizes of common models and memories of common GPUs are known, each with source and date
  (`validate --explain` prints them); for another model state `parameters`, `bytesPerParameter` and `kvBytesPerToken`, or name the known one
  that it was tuned from as `profile.model`, and for another GPU `accelerator.memoryGib`. What nobody knows the size of is not checked.
  Where the precision is left out it is that of the profile, of the model's name (`-FP8`, `-AWQ`, `-NVFP4`) or as published; a model
  published in 16 bits, or an offer whose capacity is stated, is refused only if four bits do not fit either.
  A measured profile is proof that the model fits, unless `contextTokens` or `concurrency` are stated. KV cache is reckoned in 16 bits,
  twice what an engine needs that keeps it in eight; and it is counted once, while tensor parallelism over more GPUs than KV heads keeps
  copies, for latent attention (DeepSeek, Kimi) one on each GPU. State `kvBytesPerToken` half or times as large where the engine is run so.
- *Are they joined as it needs?* A mixture of experts over several GPUs is not placed on an offer that says `interconnect: pcie`: all that
  is measured ran over NVLink.

**Corrected capacity.** With `serving.correctCapacity` stated and measured capacities are corrected by what replicas really carry. While
work waits at both ends of an interval in which no replica came or went, what is carried (arrivals, less what waits more and what is
spilled) is the most they can; while nothing waits and the SLO is kept, it is the least. One factor for the fleet follows the evidence of
the last quarter of an hour, up three times as fast as down, never below 0.5 or above 1.25; without evidence it fades to 1 within weeks. It
survives restarts, and every Decision names it as `capacity_share`. It needs `backlog` in the observations, and that to be what waits, not
what is being served.

**Your own profiles.** `TIDEGATE_PROFILES` names a CSV of your own measurements, which come before the built-in ones: `model`, `engine`,
`gpu`, `gpus_per_replica`, `isl`, `osl` (tokens in and out), `output_tok_s` (of one replica), `ttft_ms` and `itl_ms`, one operating point a
line; and where known `precision`, `engine_version`, `measured_at`, `source` and `queueing` (1: past saturation, left out).
`tidegate profile rank POLICY` puts the offers in order of USD per million output tokens within the SLO, with the reason where one is not
eligible; `--price H200=3.40` ranks what is measured on a GPU that the policy does not rent yet, and `--profiles FILE` tries a file.

**Modelled profiles.** What nobody measured NVIDIA's aiconfigurator can model from timings of the kernels on that GPU. It is an extra
(`pip install 'tidegate[aiconfigurator]'`: Linux on x86-64, Python 3.12 or 3.13, about 400 MB, no network for the models that it knows):

    tidegate profile estimate --model deepseek-ai/DeepSeek-R1 --gpu H200 --gpus 8 --engine sglang --ttft 2s --itl 50ms \\
        --isl 1024 --osl 1024 --out modelled.csv

writes the operating points of one replica as a profile file, or adds them to one, each with its date and the source "modelled … not
measured"; `TIDEGATE_PROFILES` names it as it does your own. Of tensor parallelism, experts apart (`ep`) and attention apart too (`dp`) it
takes the layout that carries most within the SLO, and says which: run that one. A modelled row counts only where nothing is measured, and
`validate` warns of it. docs/benchmarks.md says how far off such figures were; trust the time to the first token least.

**Price of spill.** With `usdPerMillionTokens`, one request costs (input tokens × `input` + output tokens × `output`) ÷ 1,000,000 at
`serving.shape`, and that is divided by the work in one request: 1 (`requests`), output tokens (`outputTokens`), or output tokens +
`inputTokenWeight` × input tokens (`weightedTokens`). `usdPerUnit` states the result instead. Exactly one of the two.

**The trade.** With a spill tier, burst is worth holding up to about the 1 − burst ÷ spill quantile of demand at the lead time, prices per
unit of work. `validate` warns when spill is not dearer than burst, since renting then never pays.
Without a spill tier head-room is rehearsed: of forty rules, multiples of the forecast and prices of a miss, the cheapest is used that
would have kept `attainment` over the last two weeks, and what was late beyond that corrects it.

**The floor is sunk.** It is held at `replicas.max`, unless `opportunityUsdPerReplicaHour` says what replicas given back are worth.

**Lead times.** With `leadTime: auto` an offer's lead time is learnt from the replicas that were seen to start: the time that four in
five of the last 32 starts did not exceed, from the decision to serving (of replicas that start at once at most four count, and an
actuator's own measurement is taken before what is merely seen). Until five starts were seen, a supplier's quote counts, and without one
the default. Replicas that boot for longer than that already raise it before they are done. What is learnt survives restarts, and every
Decision says what it reckoned with in `lead_times_seconds`. History without replicas and recommend mode without pools teach nothing.

**Prices that are not known.** A burst offer without `usdPerReplicaHour` counts as `usdPerReplicaHourCeiling` until a quote comes, and is
not bought from without either.

**Budgets.** `usdPerHour` bounds what burst and spill may cost at any time, `usdPerDay` what they cost in a UTC day. A window adds a tighter
limit for some hours of the week, by the wall clock of `forecast.timeZone`: `usdPerHour` while it is open, `usd` in all from its opening to
its end. All limits that apply hold at once, and the tightest counts, so that no window can open what another limit closes; a raised limit
for some hours is a higher base with windows around them. A new replica is charged its minimum hold when it is asked for, replicas within
their hold stay, and whatever has no known price counts as its ceiling. Until an actuator has told for the first time what an offer holds,
its `replicas.max` counts as held under every limit; what was charged for it meanwhile stays charged. Where a limit forces a choice, new
replicas give way first, then held ones, the dearest first, and spill gets what is left.

    guard:
      budget:
        usdPerHour: 900
        windows:
          - {name: nights, from: "20:00", to: "08:00", usdPerHour: 300}
          - {name: weekend, days: [sat, sun], usd: 2000}

**Drain.** `guard.drain: burst` buys nothing more and gives back what is rented, `fleet` the floor's replicas too; spill stays open within
its budgets. Minimum holds run out first (they are paid), and the step limits and the budget of `behavior.scaleDown` set the pace, what
goes anyway counted. Alerts, `replicas.min`, doubtful data and `selectPolicy: Disabled` do not hold it up; `guard.frozen` does. Set it
back to `none` and the fleet is decided for as before.

**Pace.** The limits of `behavior` are the fleet's: they count replicas of floor and burst together. `policies` bound how far the total
moves, in the HPA's words; `scaleDown.budget` bounds how many replicas are taken away, also where others take their place, as in the
return to a cheaper offer, so that no more than that drain at a time. `cooldown` is each offer's own. Money and ceilings go before pace.

**Demand is offered work.** With a spill tier, a prometheus source must say what was spilled (`spilled` or `queries.spilled`), or spill
would hide demand. Observations pushed on NATS carry it in `spilled_per_second`.

**Actuators.** An offer without an actuator block is recommended and never acted on. Budgets cover burst and spill, not the floor.
"""
