-- Every statement that runs outside of a migration. A line "-- name: NAME" begins one;
-- what it returns comes in the order of the fields of the entity it becomes.

-- name: create_publisher
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

-- name: get_publisher
select
    id, display_name, suspended, false_accept_budget, gallery_version, create_time, scan_weight,
    max_scans_per_second, max_references, max_kept_scans
from publisher
where id = %(id)s

-- name: list_publishers
select
    id, display_name, suspended, false_accept_budget, gallery_version, create_time, scan_weight,
    max_scans_per_second, max_references, max_kept_scans
from publisher
where id > %(after_id)s
order by id
limit %(limit)s

-- name: update_publisher
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

-- name: lock_publisher
-- Puts the gallery's writers in a queue. "No key", so that the foreign keys of the rows
-- which others insert beside (API keys) do not wait.
select id
from publisher
where id = %(id)s
for no key update

-- name: delete_publisher
-- The rest goes by cascade; the indexes are told, so that they drop it at once.
with deleted as (
    delete from publisher where id = %(id)s returning id
)
select pg_notify('gallery_change', id) from deleted

-- name: publisher_ids
select id from publisher order by id

-- name: gallery_versions
select id, gallery_version from publisher where id = any(%(ids)s)

-- name: create_api_key
insert into api_key (id, publisher_id, role, secret_sha256, display_name, expire_time)
values (
    %(id)s, %(publisher)s, %(role)s, %(secret_sha256)s, %(display_name)s, %(expire_time)s
)
on conflict (id) do nothing
returning id, publisher_id, role, display_name, create_time, revoke_time, expire_time

-- name: list_api_keys
select id, publisher_id, role, display_name, create_time, revoke_time, expire_time
from api_key
where publisher_id = %(publisher)s
order by id

-- name: revoke_api_key
-- The first revocation's time stays.
update api_key
set revoke_time = coalesce(revoke_time, now())
where id = %(id)s and publisher_id is not distinct from %(publisher)s
returning id, publisher_id, role, display_name, create_time, revoke_time, expire_time

-- name: find_api_key
-- The key, its secret's digest and its publisher at once: every call needs all three.
select
    k.id, k.publisher_id, k.role, k.display_name, k.create_time, k.revoke_time, k.expire_time,
    k.secret_sha256,
    p.id, p.display_name, p.suspended, p.false_accept_budget, p.gallery_version, p.create_time,
    p.scan_weight, p.max_scans_per_second, p.max_references, p.max_kept_scans
from api_key k
left join publisher p on p.id = k.publisher_id
where k.id = %(id)s

-- name: find_register_request
select fingerprint, reference_id, gallery_version
from register_request
where publisher_id = %(publisher)s and request_id = %(request_id)s

-- name: insert_register_request
insert into register_request
    (publisher_id, request_id, fingerprint, reference_id, gallery_version)
values
    (%(publisher)s, %(request_id)s, %(fingerprint)s, %(reference)s, %(gallery_version)s)

-- name: forget_register_requests
delete from register_request where create_time < now() - make_interval(days => %(days)s)

-- name: exceeded_reference_quota
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

-- name: insert_image
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

-- name: delete_image
-- The image with its features, and the time of the reference's change.
with changed_reference as (
    update reference
    set update_time = now()
    where publisher_id = %(publisher)s and id = %(reference)s
)
delete from reference_image
where publisher_id = %(publisher)s and reference_id = %(reference)s and id = %(image_id)s

-- name: append_change
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

-- name: get_reference
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

-- name: count_references
select count(*) from reference where publisher_id = %(publisher)s

-- name: count_filtered_references
-- How many list_references lists on all pages together.
select count(*)
from reference r
where r.publisher_id = %(publisher)s
    and r.active = all (%(active)s::boolean[])
    and r.id = all (%(ids)s::text[])
    and r.id ^@ all (%(id_prefixes)s::text[])
    and r.metadata @> all (%(metadata)s::jsonb[])
    and r.metadata ?& %(metadata_keys)s::text[]

-- name: update_reference
-- A null leaves the column as it is.
update reference
set link = coalesce(%(link)s, link),
    metadata = coalesce(%(metadata)s, metadata),
    active = coalesce(%(active)s, active),
    update_time = now()
where publisher_id = %(publisher)s and id = %(reference)s
returning id

-- name: delete_reference
-- Its images and their features go by cascade, and the kept scans that show it go too.
with kept as (
    delete from kept_scan
    where publisher_id = %(publisher)s and %(reference)s = any(answered)
)
delete from reference where publisher_id = %(publisher)s and id = %(reference)s

-- name: count_images_without_features
-- Features belong to an image, and an image has them once for a model version: two counts are
-- enough, and three times as fast as a look for each image's.
select
    (select count(*) from reference_image)
    - (select count(*) from image_features where model_version = %(model_version)s)

-- name: erased_image_ids
select id::text
from reference_image
where publisher_id = %(publisher)s
    and (%(reference)s::text is null or reference_id = %(reference)s)
order by id

-- name: erased_scan_ids
select id
from kept_scan
where publisher_id = %(publisher)s
    and (%(reference)s::text is null or %(reference)s = any(answered))
order by id

-- name: insert_erasure
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
insert into erasure_blob (erasure_id, key)
select %(id)s, key from unnest(%(keys)s::text[]) key

-- name: get_erasure
select
    id, publisher_id, publisher_create_time, reference_id, gallery_version, reference_count,
    image_count, feature_count, blob_count, request_time, blob_delete_time, complete_time,
    coalesce(scan_count, 0)
from erasure
where publisher_id = %(publisher)s and id = %(id)s

-- name: list_erasures
select
    id, publisher_id, publisher_create_time, reference_id, gallery_version, reference_count,
    image_count, feature_count, blob_count, request_time, blob_delete_time, complete_time,
    coalesce(scan_count, 0)
from erasure
where publisher_id = %(publisher)s and id > %(after_id)s
order by id
limit %(limit)s

-- name: lock_erasure_blobs
-- What another process works on is left to it.
select erasure_id, key
from erasure_blob
where %(id)s::text is null or erasure_id = %(id)s
limit %(limit)s
for update skip locked

-- name: delete_erasure_blobs
delete from erasure_blob b
using unnest(%(ids)s::text[], %(keys)s::text[]) done (erasure_id, key)
where b.erasure_id = done.erasure_id and b.key = done.key

-- name: finish_erasure_blobs
update erasure e
set blob_delete_time = now()
where e.complete_time is null
    and e.blob_delete_time is null
    and not exists (select from erasure_blob b where b.erasure_id = e.id)

-- name: complete_erasures
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

-- name: forget_shard_replicas
delete from shard_replica where seen_time < now() - %(age)s

-- name: see_shard_replica
insert into shard_replica (id) values (%(id)s)
on conflict (id) do update set seen_time = now()

-- name: unconfirmed_erasures
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
insert into erasure_confirmation (erasure_id, replica_id, confirm_time)
select id, %(replica)s, now() from unnest(%(ids)s::text[]) id
on conflict (erasure_id, replica_id) do update set confirm_time = now()

-- name: erasure_confirmations
select
    erasure_id,
    replica_id,
    case when confirm_time is null then 'lost' else 'confirmed' end,
    confirm_time
from erasure_confirmation
where erasure_id = any(%(ids)s)
union all
select e.id, r.id, 'awaited', null
from erasure e
join shard_replica r on r.seen_time > now() - %(lease)s
where e.id = any(%(ids)s)
    and e.complete_time is null
    and not exists (
        select from erasure_confirmation c
        where c.erasure_id = e.id and c.replica_id = r.id
    )
order by 1, 2

-- name: reference_ids
select id
from reference
where publisher_id = %(publisher)s and id > %(after_id)s
order by id
limit %(limit)s

-- name: stored_reference
select
    r.id, r.link, r.metadata, r.active, r.create_time, r.update_time,
    i.id::text, i.width, i.height, i.sha256, i.create_time, f.embedding, f.local_features
from reference r
join reference_image i on i.publisher_id = r.publisher_id and i.reference_id = r.id
left join image_features f on f.image_id = i.id and f.model_version = %(model_version)s
where r.publisher_id = %(publisher)s and r.id = %(reference)s
order by i.create_time, i.id

-- name: keep_blobs
-- Waits for a process that is deleting them.
delete from erasure_blob where key = any(%(keys)s)

-- name: other_image
-- Whether an id is that of another image than the one archived under it.
select 1
from unnest(%(ids)s::uuid[], %(sha256s)s::text[]) archived (id, sha256)
join reference_image i on i.id = archived.id
where not (
    i.publisher_id = %(publisher)s
    and i.reference_id = %(reference)s
    and encode(i.sha256, 'hex') = archived.sha256
)
limit 1

-- name: import_reference
insert into reference (publisher_id, id, link, metadata, active, create_time, update_time)
values (
    %(publisher)s, %(reference)s, %(link)s, %(metadata)s, %(active)s, %(create_time)s,
    %(update_time)s
)
on conflict (publisher_id, id) do nothing
returning id

-- name: import_image
with new_image as (
    insert into reference_image
        (id, publisher_id, reference_id, width, height, sha256, create_time)
    values (
        %(image_id)s, %(publisher)s, %(reference)s, %(width)s, %(height)s, %(sha256)s,
        %(create_time)s
    )
    returning id
)
insert into image_features (publisher_id, image_id, model_version, embedding, local_features)
select %(publisher)s, new_image.id, made.*
from new_image
cross join unnest(
    %(model_versions)s::text[], %(embeddings)s::bytea[], %(local_features)s::bytea[]
) made

-- name: begin_snapshot
-- All that follows in this transaction sees one moment.
set transaction isolation level repeatable read, read only

-- name: gallery_state
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

-- name: listen
listen gallery_change

-- name: shards
select number, state, state_time from shard order by number

-- name: lock_shards
-- Whoever changes placements takes these locks first, so that one change sees the other.
select number, state, state_time from shard order by number for update

-- name: open_shards
insert into shard (number, state)
select number, 'active' from generate_series(0, %(count)s::integer - 1) number
on conflict (number) do nothing

-- name: insert_shard
insert into shard (number, state)
select coalesce(max(number), -1) + 1, 'joining' from shard
returning number, state, state_time

-- name: set_shard_state
update shard
set state = %(state)s, state_time = now()
where number = %(number)s
returning number, state, state_time

-- name: placements
select publisher_id, shards, pinned from placement

-- name: set_placement
insert into placement (publisher_id, shards, pinned)
values (%(publisher)s, %(shards)s, %(pinned)s)
on conflict (publisher_id) do update set shards = excluded.shards, pinned = excluded.pinned

-- name: move_placement
update placement set shards = %(shards)s where publisher_id = %(publisher)s

-- name: delete_placement
delete from placement where publisher_id = %(publisher)s

-- name: image_counts
select p.id, count(i.id)
from publisher p
left join reference_image i on i.publisher_id = p.id
group by p.id
order by p.id

-- name: large_image_counts
select publisher_id, count(*)
from reference_image
group by publisher_id
having count(*) > %(above)s
order by publisher_id

-- name: count_images
select count(*) from reference_image where publisher_id = %(publisher)s

-- name: notify_placement
select pg_notify('placement_change', '')

-- name: listen_placement
listen placement_change

-- name: try_lock_rebalancing
-- Until the end of the transaction. The number is arbitrary and ours.
select pg_try_advisory_xact_lock(7310577019641222)

-- name: lock_migrations
-- Held by the session, across the transactions of the single files. The number is
-- arbitrary and ours.
select pg_advisory_lock(7310577019641221)

-- name: create_schema_migration
create table if not exists schema_migration (
    name text collate "C" primary key,
    apply_time timestamptz not null default now()
)

-- name: schema_migration_exists
select to_regclass('schema_migration') is not null

-- name: applied_migrations
select name from schema_migration

-- name: insert_migration
insert into schema_migration (name) values (%(name)s)

-- name: is_superuser
-- Whether row security does not hold for whoever is connected.
select rolsuper or rolbypassrls from pg_roles where rolname = current_user

-- name: create_confined_role
-- Roles belong to all databases of a server: another may have made it, or be making it.
do $$
begin
    create role imagelink_confined nologin;
exception
    when duplicate_object or unique_violation then null;
end
$$

-- name: grant_to_confined_role
do $$
begin
    execute format(
        'grant select, insert, update, delete on all tables in schema %I to imagelink_confined',
        current_schema()
    );
    execute format('grant usage on schema %I to imagelink_confined', current_schema());
end
$$

-- name: take_confined_role
set role imagelink_confined

-- name: share_model_lock
-- Who writes images holds it until the commit. The number is arbitrary and ours.
select pg_advisory_xact_lock_shared(7310577019641223)

-- name: take_model_lock
-- Waits for all who write images, and has them wait until the commit.
select pg_advisory_xact_lock(7310577019641223)

-- name: written_models
-- The versions that every image needs features of.
select model_version from serving
union
select version
from rollout, unnest(array[model_version, former_version]) version
where state in ('backfilling', 'evaluating', 'ready', 'canary', 'active')

-- name: insert_model
insert into model (version, manifest, size_bytes)
values (%(version)s, %(manifest)s, %(size_bytes)s)
on conflict (version) do nothing

-- name: models
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

-- name: delete_model
delete from model where version = %(version)s

-- name: delete_features
-- Some of a version's features: all at once would hold their rows for minutes.
delete from image_features
where ctid = any(
    array(
        select ctid from image_features where model_version = %(version)s limit %(limit)s
    )
)

-- name: needless_features
-- The versions that images have features of without need.
select version
from model
where has_features
    and version not in (select model_version from serving)
    and version not in (select model_version from publisher_model)
    and not exists (
        select from rollout
        where state in ('backfilling', 'evaluating', 'ready', 'canary', 'active')
            and version in (model_version, former_version)
    )

-- name: set_has_features
update model set has_features = %(has_features)s where version = %(version)s

-- name: begin_serving
-- Only where no version serves yet.
insert into serving (model_version) values (%(version)s) on conflict do nothing

-- name: serving_epoch
select epoch from serving

-- name: serving
select epoch, model_version from serving

-- name: publisher_models
select publisher_id, model_version from publisher_model

-- name: set_default_model
update serving set model_version = %(version)s

-- name: set_publisher_models
insert into publisher_model (publisher_id, model_version)
select p.id, %(version)s from publisher p where p.id = any(%(publishers)s)
on conflict (publisher_id) do update set model_version = excluded.model_version

-- name: clear_publisher_models
delete from publisher_model

-- name: next_epoch
update serving set epoch = epoch + 1

-- name: notify_models
select pg_notify('model_change', '')

-- name: listen_models
listen model_change

-- name: insert_rollout
insert into rollout (
    id, model_version, former_version, state, max_images_per_second, shadow_share
)
select
    %(id)s, %(model)s, s.model_version, 'backfilling', %(max_images_per_second)s,
    %(shadow_share)s
from serving s
returning id

-- name: rollouts
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

-- name: lock_rollout
select id from rollout where id = %(id)s for update

-- name: set_rollout_state
update rollout
set state = %(state)s, problem = %(problem)s,
    state_time = case when state = %(state)s then state_time else now() end
where id = %(id)s

-- name: set_rollout_switched
update rollout
set switch_time = now(), forced = forced or %(forced)s
where id = %(id)s

-- name: update_rollout
-- A null leaves the column as it is.
update rollout
set paused = coalesce(%(paused)s, paused),
    max_images_per_second = coalesce(%(max_images_per_second)s, max_images_per_second),
    shadow_share = coalesce(%(shadow_share)s, shadow_share)
where id = %(id)s

-- name: set_rollout_gate
update rollout set gate = %(gate)s where id = %(id)s

-- name: rollout_gate
select gate, state_time from rollout where id = %(id)s

-- name: set_rollout_pace
update rollout
set images_per_second = %(images_per_second)s, pace_time = now()
where id = %(id)s

-- name: rollout_pace
select case when pace_time > now() - %(fresh)s then images_per_second else 0 end
from rollout
where id = %(id)s

-- name: lacking_images
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

-- name: insert_features
-- What was deleted since it was read has gone, and what was written since is as good.
insert into image_features (publisher_id, image_id, model_version, embedding, local_features)
select i.publisher_id, i.id, %(version)s, %(embedding)s, %(local_features)s
from reference_image i
where i.id = %(image)s
for key share
on conflict do nothing

-- name: count_features
select count(*) from image_features where model_version = %(version)s

-- name: count_unusable
select count(*) from image_features where model_version = %(version)s and embedding = ''

-- name: count_all_images
select count(*) from reference_image

-- name: try_lock_rollout
-- Until the end of the transaction. The number is arbitrary and ours.
select pg_try_advisory_xact_lock(7310577019641224)

-- name: see_scanner
insert into scanner (id, models) values (%(id)s, %(models)s)
on conflict (id) do update set models = excluded.models, seen_time = now()

-- name: lagging_scanners
select id from scanner
where seen_time > now() - %(lease)s and not models @> array[%(version)s]
order by id

-- name: forget_scanners
delete from scanner where seen_time < now() - %(age)s

-- name: count_scans
insert into scan_count (minute, publisher_id, model_version, scans, matches, seconds)
values (
    date_trunc('minute', now()), %(publisher)s, %(version)s, %(scans)s, %(matches)s, %(seconds)s
)
on conflict (minute, publisher_id, model_version) do update
set scans = scan_count.scans + excluded.scans,
    matches = scan_count.matches + excluded.matches,
    seconds = scan_count.seconds + excluded.seconds

-- name: forget_scan_counts
delete from scan_count where minute < now() - %(age)s

-- name: scan_rates
-- Of some publishers, or of all for null, in whole minutes.
select coalesce(sum(scans), 0), coalesce(sum(matches), 0), coalesce(sum(seconds), 0)
from scan_count
where model_version = %(version)s
    and minute >= %(since)s - interval '1 minute' and minute <= %(until)s
    and (%(publishers)s::text[] is null or publisher_id = any(%(publishers)s))

-- name: count_shadows
insert into shadow_count (rollout_id, scans, agreed, former_only, new_only)
select id, %(scans)s, %(agreed)s, %(former_only)s, %(new_only)s from rollout where id = %(id)s
on conflict (rollout_id) do update
set scans = shadow_count.scans + excluded.scans,
    agreed = shadow_count.agreed + excluded.agreed,
    former_only = shadow_count.former_only + excluded.former_only,
    new_only = shadow_count.new_only + excluded.new_only

-- name: shadow_counts
select scans, agreed, former_only, new_only from shadow_count where rollout_id = %(id)s

-- name: sampled_images
-- Some images of each publisher's active references, the same ones each time.
select publisher_id, reference_id, id::text, sha256
from (
    select
        i.publisher_id, i.reference_id, i.id, i.sha256,
        row_number() over (partition by i.publisher_id order by md5(i.id::text)) as place
    from reference_image i
    join reference r on r.publisher_id = i.publisher_id and r.id = i.reference_id
    where r.active
) ranked
order by place, publisher_id
limit %(limit)s

-- name: insert_kept_scan
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
-- Whoever is to remove the row waits from here to the end of the transaction.
update kept_scan set stored = true where publisher_id = %(publisher)s and id = %(id)s
returning id

-- name: lock_surplus_scans
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

-- name: delete_kept_scans
delete from kept_scan k
using unnest(%(publishers)s::text[], %(ids)s::text[]) gone (publisher_id, id)
where k.publisher_id = gone.publisher_id and k.id = gone.id

-- name: sampled_scans
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

-- name: count_publishers
select count(*) from publisher

-- name: see_every_publisher
-- Until the connection's end: a backup is of all.
select set_config('imagelink.publisher', '*', false)

-- name: export_snapshot
-- The transaction's moment, for another connection to see too.
select pg_export_snapshot()

-- name: stored_images
select publisher_id, id::text, encode(sha256, 'hex')
from reference_image
order by publisher_id, id

-- name: model_versions
select version from model order by version

-- name: present_images
select id::text from reference_image where id = any(%(ids)s::uuid[])

-- name: export_erasures
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

-- name: import_erasure
-- Nothing comes back where the receipt is there already.
insert into erasure
select * from jsonb_populate_record(null::erasure, %(receipt)s)
on conflict (id) do nothing
returning publisher_id, reference_id

-- name: import_confirmations
insert into erasure_confirmation
select * from jsonb_populate_recordset(null::erasure_confirmation, %(confirmations)s)
on conflict do nothing

-- name: forget_images
delete from reference_image where id = any(%(ids)s::uuid[])

-- name: forget_references_without_images
delete from reference r
where not exists (
    select from reference_image i
    where i.publisher_id = r.publisher_id and i.reference_id = r.id
)

-- name: forget_models
delete from model where version = any(%(versions)s)

-- name: begin_new_lives
-- Indexes and snapshots of before the restore have other versions under the same numbers: to
-- them these are galleries of other publishers, as those are told apart by their time.
update publisher
set create_time = create_time - make_interval(secs => ceil(random() * 999999) / 1000000)

-- name: has_tables
select exists (
    select from pg_class
    where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p')
)
