-- name: create_publisher
-- with: {"id": "$publisher", "display_name": "", "false_accept_budget": 0.001, "scan_weight": 3, "max_scans_per_second": 2.5, "max_references": 100, "max_kept_scans": 50}
-- Its versions go on from those of a deleted publisher of the same name: an index that still
-- has that one's gallery is behind every version of this one.
insert into publisher (
    id, display_name, false_accept_budget, scan_weight, max_scans_per_second, max_references,
    max_kept_scans, gallery_version
)
values (
    %(id)s, %(display_name)s, %(false_accept_budget)s, %(scan_weight)s,
    %(max_scans_per_second)s, %(max_references)s, %(max_kept_scans)s,
    coalesce(
        (
            select max(gallery_version)
            from erasure
            where publisher_id = %(id)s and reference_id is null
        ),
        0
    )
)
returning
    id, display_name, suspended, false_accept_budget, gallery_version, create_time, scan_weight,
    max_scans_per_second, max_references, max_kept_scans

-- name: update_publisher
-- with: {"id": "$publisher", "display_name": "New", "suspended": null, "false_accept_budget": null, "scan_weight": 2, "max_scans_per_second": 0, "max_references": null, "max_kept_scans": null}
-- A null leaves the column as it is.
update publisher
set display_name = coalesce(%(display_name)s, display_name),
    suspended = coalesce(%(suspended)s, suspended),
    false_accept_budget = coalesce(%(false_accept_budget)s, false_accept_budget),
    scan_weight = coalesce(%(scan_weight)s, scan_weight),
    max_scans_per_second = coalesce(%(max_scans_per_second)s, max_scans_per_second),
    max_references = coalesce(%(max_references)s, max_references),
    max_kept_scans = coalesce(%(max_kept_scans)s, max_kept_scans)
where id = %(id)s
returning
    id, display_name, suspended, false_accept_budget, gallery_version, create_time, scan_weight,
    max_scans_per_second, max_references, max_kept_scans

-- name: create_api_key
-- with: {"id": "key-$publisher", "publisher": "$publisher", "role": "scan", "secret_sha256": "\\x0000000000000000000000000000000000000000000000000000000000000000", "display_name": "", "expire_time": "2100-01-01T00:00:00Z"}
insert into api_key (id, publisher_id, role, secret_sha256, display_name, expire_time)
values (
    %(id)s, %(publisher)s, %(role)s, %(secret_sha256)s, %(display_name)s, %(expire_time)s
)
on conflict (id) do nothing
returning id, publisher_id, role, display_name, create_time, revoke_time, expire_time

-- name: find_api_key
-- with: {"id": "key-$publisher"}
-- The key, its secret's digest and its publisher at once: every call needs all three.
select
    k.id, k.publisher_id, k.role, k.display_name, k.create_time, k.revoke_time, k.expire_time,
    k.secret_sha256,
    p.id, p.display_name, p.suspended, p.false_accept_budget, p.gallery_version, p.create_time,
    p.scan_weight, p.max_scans_per_second, p.max_references, p.max_kept_scans
from api_key k
left join publisher p on p.id = k.publisher_id
where k.id = %(id)s

-- name: lock_publisher
-- with: {"id": "$publisher"}
-- Puts the gallery's writers in a queue. "No key", so that the foreign keys of the rows
-- which others insert beside (API keys) do not wait.
select id
from publisher
where id = %(id)s
for no key update

-- name: share_model_lock
-- with: {}
-- Who writes images holds it until the commit. The number is arbitrary and ours.
select pg_advisory_xact_lock_shared(7310577019641223)

-- name: insert_model
-- with: {"version": "model-$publisher", "manifest": "{}", "size_bytes": 1}
insert into model (version, manifest, size_bytes)
values (%(version)s, %(manifest)s, %(size_bytes)s)
on conflict (version) do nothing

-- name: begin_serving
-- with: {"version": "model-1"}
-- Only where no version serves yet.
insert into serving (model_version) values (%(version)s) on conflict do nothing

-- name: written_models
-- with: {}
-- The versions that every image needs features of.
select model_version from serving
union
select version
from rollout, unnest(array[model_version, former_version]) version
where state in ('backfilling', 'evaluating', 'ready', 'canary', 'active')

-- name: exceeded_reference_quota
-- with: {"publisher": "$publisher", "reference": "poster"}
-- The quota that a reference would exceed. No row comes back where there is room for it, or it
-- exists already; references are counted where there is a quota alone.
select max_references
from publisher p
where id = %(publisher)s
    and max_references > 0
    and not exists (
        select from reference where publisher_id = p.id and id = %(reference)s
    )
    and max_references <= (select count(*) from reference where publisher_id = p.id)

-- name: insert_reference
-- with: {"publisher": "$publisher", "reference": "poster", "link": "https://example.com/", "metadata": "{\"a\": \"b\"}", "image_id": "$image1", "width": 640, "height": 480, "sha256": "\\x0000000000000000000000000000000000000000000000000000000000000000", "model_versions": ["model-1"], "embeddings": ["\\x01"], "local_features": ["\\x02"]}
-- The reference, its image and the image's features in one round trip. No row comes back
-- where the reference exists already: an error would undo the batch that it is written with.
with new_reference as (
    insert into reference (publisher_id, id, link, metadata)
    values (%(publisher)s, %(reference)s, %(link)s, %(metadata)s)
    on conflict (publisher_id, id) do nothing
    returning publisher_id, id
),
new_image as (
    insert into reference_image (id, publisher_id, reference_id, width, height, sha256)
    select %(image_id)s, publisher_id, id, %(width)s, %(height)s, %(sha256)s
    from new_reference
    returning id
)
insert into image_features (publisher_id, image_id, model_version, embedding, local_features)
select %(publisher)s, new_image.id, made.*
from new_image
cross join unnest(
    %(model_versions)s::text[], %(embeddings)s::bytea[], %(local_features)s::bytea[]
) made
returning image_id

-- name: append_change
-- with: {"publisher": "$publisher", "reference": "poster"}
-- Gives the gallery its next version and says what that version wrote. The reference's change
-- before goes: whoever lacks that one lacks this one too. The notification goes out with the
-- commit.
with next as (
    update publisher
    set gallery_version = gallery_version + 1
    where id = %(publisher)s
    returning gallery_version
),
superseded as (
    delete from change where publisher_id = %(publisher)s and reference_id = %(reference)s
),
appended as (
    insert into change (publisher_id, gallery_version, reference_id)
    select %(publisher)s, gallery_version, %(reference)s from next
    returning gallery_version
)
select gallery_version, pg_notify('gallery_change', %(publisher)s) from appended

-- name: insert_register_request
-- with: {"publisher": "$publisher", "reference": "poster", "request_id": "request", "fingerprint": "\\x03", "gallery_version": 1}
insert into register_request
    (publisher_id, request_id, fingerprint, reference_id, gallery_version)
values
    (%(publisher)s, %(request_id)s, %(fingerprint)s, %(reference)s, %(gallery_version)s)

-- name: forget_register_requests
-- with: {"days": 7}
delete from register_request where create_time < now() - make_interval(days => %(days)s)

-- name: find_register_request
-- with: {"publisher": "$publisher", "request_id": "request"}
select fingerprint, reference_id, gallery_version
from register_request
where publisher_id = %(publisher)s and request_id = %(request_id)s

-- name: insert_image
-- with: {"publisher": "$publisher", "reference": "poster", "image_id": "$image2", "width": 640, "height": 480, "sha256": "\\x0000000000000000000000000000000000000000000000000000000000000000", "model_versions": ["model-1"], "embeddings": ["\\x01"], "local_features": ["\\x02"]}
-- An image and its features, and the time of the reference's change.
with changed_reference as (
    update reference
    set update_time = now()
    where publisher_id = %(publisher)s and id = %(reference)s
),
new_image as (
    insert into reference_image (id, publisher_id, reference_id, width, height, sha256)
    values (%(image_id)s, %(publisher)s, %(reference)s, %(width)s, %(height)s, %(sha256)s)
)
insert into image_features (publisher_id, image_id, model_version, embedding, local_features)
select %(publisher)s, %(image_id)s, made.*
from unnest(
    %(model_versions)s::text[], %(embeddings)s::bytea[], %(local_features)s::bytea[]
) made

-- name: update_reference
-- with: {"publisher": "$publisher", "reference": "poster", "link": "https://example.com/2", "metadata": null, "active": null}
-- A null leaves the column as it is.
update reference
set link = coalesce(%(link)s, link),
    metadata = coalesce(%(metadata)s, metadata),
    active = coalesce(%(active)s, active),
    update_time = now()
where publisher_id = %(publisher)s and id = %(reference)s
returning id

-- name: get_reference
-- with: {"publisher": "$publisher", "reference": "poster"}
select
    r.publisher_id, r.id, r.link, r.metadata, r.active, r.create_time, r.update_time,
    (
        select jsonb_agg(
            jsonb_build_array(i.id, i.width, i.height, encode(i.sha256, 'hex'))
            order by i.create_time, i.id
        )
        from reference_image i
        where i.publisher_id = r.publisher_id and i.reference_id = r.id
    )
from reference r
where r.publisher_id = %(publisher)s and r.id = %(reference)s

-- name: list_references
-- with: {"publisher": "$publisher", "after_id": "", "active": [], "ids": [], "id_prefixes": [], "metadata": [], "metadata_keys": [], "limit": 10}
-- Each condition of a filter is an array that the row must agree with wholly; an empty one
-- lets every row pass.
select
    r.publisher_id, r.id, r.link, r.metadata, r.active, r.create_time, r.update_time,
    (
        select jsonb_agg(
            jsonb_build_array(i.id, i.width, i.height, encode(i.sha256, 'hex'))
            order by i.create_time, i.id
        )
        from reference_image i
        where i.publisher_id = r.publisher_id and i.reference_id = r.id
    )
from reference r
where r.publisher_id = %(publisher)s and r.id > %(after_id)s
    and r.active = all (%(active)s::boolean[])
    and r.id = all (%(ids)s::text[])
    and r.id ^@ all (%(id_prefixes)s::text[])
    and r.metadata @> all (%(metadata)s::jsonb[])
    and r.metadata ?& %(metadata_keys)s::text[]
order by r.id
limit %(limit)s

-- name: stored_reference
-- with: {"publisher": "$publisher", "reference": "poster", "model_version": "model-1"}
select
    r.id, r.link, r.metadata, r.active, r.create_time, r.update_time,
    i.id::text, i.width, i.height, i.sha256, i.create_time, f.embedding, f.local_features
from reference r
join reference_image i on i.publisher_id = r.publisher_id and i.reference_id = r.id
left join image_features f on f.image_id = i.id and f.model_version = %(model_version)s
where r.publisher_id = %(publisher)s and r.id = %(reference)s
order by i.create_time, i.id

-- name: gallery_state
-- with: {"publisher": "$publisher", "model_version": "model-1"}
-- Every reference of a gallery, a row for each of its images, in the shape of
-- gallery_changes.
--
-- "offset 0" makes each lateral join one look-up by the whole key. Left to itself, the
-- planner takes a gallery that filled since the last analyze for a few rows, and compares
-- every reference with every image: minutes instead of a second for 20 000.
select r.id, r.active, r.link, r.metadata, i.id::text, f.embedding, f.local_features
from reference r
left join lateral (
    select id, create_time
    from reference_image
    where publisher_id = %(publisher)s and reference_id = r.id
    offset 0
) i on true
left join lateral (
    select embedding, local_features
    from image_features
    where image_id = i.id and model_version = %(model_version)s
    offset 0
) f on true
where r.publisher_id = %(publisher)s
order by r.id, i.create_time, i.id

-- name: gallery_changes
-- with: {"publisher": "$publisher", "model_version": "model-1", "version": 0}
-- The present state of each reference written after a version: "active" is null where
-- it is gone, the features where the image has none of this model. For "offset 0" see
-- gallery_state.
with changed as (
    select distinct reference_id
    from change
    where publisher_id = %(publisher)s and gallery_version > %(version)s
)
select c.reference_id, r.active, r.link, r.metadata, i.id::text, f.embedding, f.local_features
from changed c
left join lateral (
    select id, active, link, metadata
    from reference
    where publisher_id = %(publisher)s and id = c.reference_id
    offset 0
) r on true
left join lateral (
    select id, create_time
    from reference_image
    where publisher_id = %(publisher)s and reference_id = r.id
    offset 0
) i on true
left join lateral (
    select embedding, local_features
    from image_features
    where image_id = i.id and model_version = %(model_version)s
    offset 0
) f on true
order by c.reference_id, i.create_time, i.id

-- name: delete_image
-- with: {"publisher": "$publisher", "reference": "poster", "image_id": "$image2"}
-- The image with its features, and the time of the reference's change.
with changed_reference as (
    update reference
    set update_time = now()
    where publisher_id = %(publisher)s and id = %(reference)s
)
delete from reference_image
where publisher_id = %(publisher)s and reference_id = %(reference)s and id = %(image_id)s

-- name: see_shard_replica
-- with: {"id": "replica-$publisher"}
insert into shard_replica (id) values (%(id)s)
on conflict (id) do update set seen_time = now()

-- name: insert_kept_scan
-- with: {"publisher": "$publisher", "id": "scan-$publisher", "create_time": "now", "answered": ["poster"], "model_version": "model-1"}
-- Nothing where the publisher does not agree (any more), is another one under the same name, or
-- lacks a reference that was answered.
insert into kept_scan (publisher_id, id, answered, model_version)
select p.id, %(id)s, %(answered)s, %(model_version)s
from publisher p
where p.id = %(publisher)s
    and p.create_time = %(create_time)s
    and p.max_kept_scans > 0
    and cardinality(%(answered)s::text[]) = (
        select count(*) from reference where publisher_id = p.id and id = any(%(answered)s)
    )
returning id

-- name: set_scan_stored
-- with: {"publisher": "$publisher", "id": "scan-$publisher"}
-- Whoever is to remove the row waits from here to the end of the transaction.
update kept_scan set stored = true where publisher_id = %(publisher)s and id = %(id)s
returning id

-- name: lock_surplus_scans
-- with: {"days": 30, "limit": 10}
-- Those that are too old, that a crash left without a photo, or that are more than their
-- publishers agreed to. What another process works on is left to it.
select publisher_id, id
from kept_scan
where scan_time < now() - make_interval(days => %(days)s)
    or (not stored and scan_time < now() - interval '1 minute')
    or (publisher_id, id) in (
        select publisher_id, id
        from (
            select
                k.publisher_id, k.id, p.max_kept_scans,
                row_number() over (
                    partition by k.publisher_id order by k.scan_time desc, k.id
                ) as place
            from kept_scan k
            join publisher p on p.id = k.publisher_id
            where k.stored
        ) ranked
        where place > max_kept_scans
    )
limit %(limit)s
for update skip locked

-- name: sampled_scans
-- with: {"limit": 10}
-- Some of each publisher that still agrees: their ids are random.
select publisher_id, id
from (
    select
        k.publisher_id, k.id,
        row_number() over (partition by k.publisher_id order by k.id) as place
    from kept_scan k
    join publisher p on p.id = k.publisher_id
    where k.stored and p.max_kept_scans > 0
) ranked
order by place, publisher_id
limit %(limit)s

-- name: erased_scan_ids
-- with: {"publisher": "$publisher", "reference": "poster"}
select id
from kept_scan
where publisher_id = %(publisher)s
    and (%(reference)s::text is null or %(reference)s = any(answered))
order by id

-- name: erased_image_ids
-- with: {"publisher": "$publisher", "reference": "poster"}
select id::text
from reference_image
where publisher_id = %(publisher)s
    and (%(reference)s::text is null or reference_id = %(reference)s)
order by id

-- name: insert_erasure
-- with: {"publisher": "$publisher", "reference": "poster", "id": "erasure-$publisher", "images": ["$image1"], "keys": ["images/$publisher/$image1"], "scans": ["scan-$publisher"]}
insert into erasure (
    id, publisher_id, publisher_create_time, reference_id, gallery_version,
    reference_count, image_count, feature_count, blob_count, scan_count
)
select
    %(id)s, p.id, p.create_time, %(reference)s, p.gallery_version + 1,
    (
        select count(*)
        from reference r
        where r.publisher_id = p.id and (%(reference)s::text is null or r.id = %(reference)s)
    ),
    cardinality(%(images)s::uuid[]),
    (select count(*) from image_features f where f.image_id = any(%(images)s::uuid[])),
    cardinality(%(keys)s::text[]),
    cardinality(%(scans)s::text[])
from publisher p
where p.id = %(publisher)s
returning
    id, publisher_id, publisher_create_time, reference_id, gallery_version, reference_count,
    image_count, feature_count, blob_count, request_time, blob_delete_time, complete_time,
    scan_count

-- name: insert_erasure_blobs
-- with: {"id": "erasure-$publisher", "keys": ["images/$publisher/$image1"]}
insert into erasure_blob (erasure_id, key)
select %(id)s, key from unnest(%(keys)s::text[]) key

-- name: delete_kept_scans
-- with: {"publishers": ["$publisher"], "ids": ["scan-$publisher"]}
delete from kept_scan k
using unnest(%(publishers)s::text[], %(ids)s::text[]) gone (publisher_id, id)
where k.publisher_id = gone.publisher_id and k.id = gone.id

-- name: delete_reference
-- with: {"publisher": "$publisher", "reference": "poster"}
-- Its images and their features go by cascade, and the kept scans that show it go too.
with kept as (
    delete from kept_scan
    where publisher_id = %(publisher)s and %(reference)s = any(answered)
)
delete from reference where publisher_id = %(publisher)s and id = %(reference)s

-- name: unconfirmed_erasures
-- with: {"replica": "replica-$publisher", "limit": 10}
-- What an index has to confirm, also late, where it was taken for lost.
select e.id, e.publisher_id, e.publisher_create_time, e.gallery_version
from erasure e
where e.complete_time is null
    and not exists (
        select from erasure_confirmation c
        where c.erasure_id = e.id and c.replica_id = %(replica)s
    )
union all
select e.id, e.publisher_id, e.publisher_create_time, e.gallery_version
from erasure_confirmation c
join erasure e on e.id = c.erasure_id
where c.replica_id = %(replica)s and c.confirm_time is null
limit %(limit)s

-- name: confirm_erasures
-- with: {"replica": "replica-$publisher", "ids": ["erasure-$publisher"]}
insert into erasure_confirmation (erasure_id, replica_id, confirm_time)
select id, %(replica)s, now() from unnest(%(ids)s::text[]) id
on conflict (erasure_id, replica_id) do update set confirm_time = now()

-- name: lock_erasure_blobs
-- with: {"id": "erasure-$publisher", "limit": 10}
-- What another process works on is left to it.
select erasure_id, key
from erasure_blob
where %(id)s::text is null or erasure_id = %(id)s
limit %(limit)s
for update skip locked

-- name: delete_erasure_blobs
-- with: {"ids": ["erasure-$publisher"], "keys": ["images/$publisher/$image1"]}
delete from erasure_blob b
using unnest(%(ids)s::text[], %(keys)s::text[]) done (erasure_id, key)
where b.erasure_id = done.erasure_id and b.key = done.key

-- name: finish_erasure_blobs
-- with: {}
update erasure e
set blob_delete_time = now()
where e.complete_time is null
    and e.blob_delete_time is null
    and not exists (select from erasure_blob b where b.erasure_id = e.id)

-- name: complete_erasures
-- with: {"lease": 60}
-- Those that no living index still has to confirm. The indexes that lived at the request
-- and were lost before they could are written down as such.
with completed as (
    update erasure e
    set complete_time = now()
    where e.complete_time is null
        and e.blob_delete_time is not null
        and not exists (
            select from shard_replica r
            where r.seen_time > now() - %(lease)s
                and not exists (
                    select from erasure_confirmation c
                    where c.erasure_id = e.id and c.replica_id = r.id
                )
        )
    returning e.id, e.request_time
)
insert into erasure_confirmation (erasure_id, replica_id)
select c.id, r.id
from completed c
join shard_replica r on r.seen_time > c.request_time - %(lease)s
    and r.seen_time <= now() - %(lease)s
on conflict do nothing

-- name: list_erasures
-- with: {"publisher": "$publisher", "after_id": "", "limit": 10}
select
    id, publisher_id, publisher_create_time, reference_id, gallery_version, reference_count,
    image_count, feature_count, blob_count, request_time, blob_delete_time, complete_time,
    coalesce(scan_count, 0)
from erasure
where publisher_id = %(publisher)s and id > %(after_id)s
order by id
limit %(limit)s

-- name: open_shards
-- with: {"count": 1}
insert into shard (number, state)
select number, 'active' from generate_series(0, %(count)s::integer - 1) number
on conflict (number) do nothing

-- name: lock_shards
-- with: {}
-- Whoever changes placements takes these locks first, so that one change sees the other.
select number, state, state_time from shard order by number for update

-- name: set_placement
-- with: {"publisher": "$publisher", "shards": [0], "pinned": false}
insert into placement (publisher_id, shards, pinned)
values (%(publisher)s, %(shards)s, %(pinned)s)
on conflict (publisher_id) do update set shards = excluded.shards, pinned = excluded.pinned

-- name: placements
-- with: {}
select publisher_id, shards, pinned from placement

-- name: image_counts
-- with: {}
select p.id, count(i.id)
from publisher p
left join reference_image i on i.publisher_id = p.id
group by p.id
order by p.id

-- name: models
-- with: {"version": null}
-- The newest first. What each is doing follows from the serving row and the rollouts.
select
    m.version, m.manifest, m.size_bytes, m.create_time,
    case
        when m.version = s.model_version
            or exists (select from publisher_model p where p.model_version = m.version)
            then 'active'
        when r.state = 'backfilling' and m.version = r.model_version then 'backfilling'
        when m.version in (r.model_version, r.former_version) then 'ready'
        when exists (
            select from rollout e
            where e.former_version = m.version and e.state = 'completed'
        ) then 'retired'
        when (
            select e.state from rollout e
            where e.model_version = m.version order by e.id desc limit 1
        ) = 'failed' then 'failed'
        else 'uploaded'
    end
from model m
left join serving s on true
left join rollout r on r.state in ('backfilling', 'evaluating', 'ready', 'canary', 'active')
where %(version)s::text is null or m.version = %(version)s
order by m.create_time desc, m.version

-- name: serving
-- with: {}
select epoch, model_version from serving

-- name: set_publisher_models
-- with: {"version": "model-1", "publishers": ["$publisher"]}
insert into publisher_model (publisher_id, model_version)
select p.id, %(version)s from publisher p where p.id = any(%(publishers)s)
on conflict (publisher_id) do update set model_version = excluded.model_version

-- name: publisher_models
-- with: {}
select publisher_id, model_version from publisher_model

-- name: next_epoch
-- with: {}
update serving set epoch = epoch + 1

-- name: rollouts
-- with: {"id": null, "under_way": false}
-- The latest first.
select
    id, model_version, former_version, state, create_time, state_time, paused,
    max_images_per_second, shadow_share,
    case when gate is null then null else jsonb_array_length(gate -> 'problems') = 0 end,
    forced, problem, switch_time
from rollout
where (%(id)s::text is null or id = %(id)s)
    and (
        not %(under_way)s
        or state in ('backfilling', 'evaluating', 'ready', 'canary', 'active')
    )
order by id desc

-- name: see_scanner
-- with: {"id": "scanner-$publisher", "models": ["model-1"]}
insert into scanner (id, models) values (%(id)s, %(models)s)
on conflict (id) do update set models = excluded.models, seen_time = now()

-- name: lacking_images
-- with: {"after": "00000000-0000-0000-0000-000000000000", "version": "model-1", "limit": 10, "local_features_of": "model-1"}
-- In the order of their ids, so that each look goes on where the last one ended.
select i.publisher_id, i.reference_id, i.id::text, i.sha256, coalesce(o.local_features, '')
from reference_image i
left join image_features o on o.image_id = i.id and o.model_version = %(local_features_of)s
where i.id > %(after)s
    and not exists (
        select from image_features f
        where f.image_id = i.id and f.model_version = %(version)s
    )
order by i.id
limit %(limit)s

-- name: count_scans
-- with: {"publisher": "$publisher", "version": "model-1", "scans": 1, "matches": 1, "seconds": 0.1}
insert into scan_count (minute, publisher_id, model_version, scans, matches, seconds)
values (
    date_trunc('minute', now()), %(publisher)s, %(version)s, %(scans)s, %(matches)s, %(seconds)s
)
on conflict (minute, publisher_id, model_version) do update
set scans = scan_count.scans + excluded.scans,
    matches = scan_count.matches + excluded.matches,
    seconds = scan_count.seconds + excluded.seconds

-- name: stored_images
-- with: {}
select publisher_id, id::text, encode(sha256, 'hex')
from reference_image
order by publisher_id, id

-- name: export_erasures
-- with: {}
-- Each receipt whole, in the order of the requests.
select to_jsonb(e) || jsonb_build_object(
    'confirmations',
    (
        select coalesce(jsonb_agg(to_jsonb(c) order by c.replica_id), '[]')
        from erasure_confirmation c
        where c.erasure_id = e.id
    )
)
from erasure e
order by e.id

-- name: delete_publisher
-- with: {"id": "$publisher"}
-- The rest goes by cascade; the indexes are told, so that they drop it at once.
with deleted as (
    delete from publisher where id = %(id)s returning id
)
select pg_notify('gallery_change', id) from deleted
