-- Every statement that runs outside of a migration. A line "-- name: NAME" begins one;
-- what it returns comes in the order of the fields of the entity it becomes.

-- name: create_publisher
insert into publisher (id, display_name, false_accept_budget)
values (%(id)s, %(display_name)s, %(false_accept_budget)s)
returning id, display_name, suspended, false_accept_budget, gallery_version, create_time

-- name: get_publisher
select id, display_name, suspended, false_accept_budget, gallery_version, create_time
from publisher
where id = %(id)s

-- name: list_publishers
select id, display_name, suspended, false_accept_budget, gallery_version, create_time
from publisher
where id > %(after_id)s
order by id
limit %(limit)s

-- name: update_publisher
-- A null leaves the column as it is.
update publisher
set display_name = coalesce(%(display_name)s, display_name),
    suspended = coalesce(%(suspended)s, suspended),
    false_accept_budget = coalesce(%(false_accept_budget)s, false_accept_budget)
where id = %(id)s
returning id, display_name, suspended, false_accept_budget, gallery_version, create_time

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
insert into api_key (id, publisher_id, role, secret_sha256, display_name)
values (%(id)s, %(publisher)s, %(role)s, %(secret_sha256)s, %(display_name)s)
on conflict (id) do nothing
returning id, publisher_id, role, display_name, create_time, revoke_time

-- name: list_api_keys
select id, publisher_id, role, display_name, create_time, revoke_time
from api_key
where publisher_id = %(publisher)s
order by id

-- name: revoke_api_key
-- The first revocation's time stays.
update api_key
set revoke_time = coalesce(revoke_time, now())
where id = %(id)s and publisher_id is not distinct from %(publisher)s
returning id, publisher_id, role, display_name, create_time, revoke_time

-- name: find_api_key
-- The key, its secret's digest and its publisher at once: every call needs all three.
select
    k.id, k.publisher_id, k.role, k.display_name, k.create_time, k.revoke_time,
    k.secret_sha256,
    p.id, p.display_name, p.suspended, p.false_accept_budget, p.gallery_version, p.create_time
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

-- name: insert_reference
-- The reference, its image and the image's features in one round trip.
with new_reference as (
    insert into reference (publisher_id, id, link, metadata)
    values (%(publisher)s, %(reference)s, %(link)s, %(metadata)s)
),
new_image as (
    insert into reference_image (id, publisher_id, reference_id, width, height, sha256)
    values (%(image_id)s, %(publisher)s, %(reference)s, %(width)s, %(height)s, %(sha256)s)
)
insert into image_features (image_id, model_version, embedding, local_features)
values (%(image_id)s, %(model_version)s, %(embedding)s, %(local_features)s)

-- name: append_change
-- Gives the gallery its next version and says what that version wrote. The notification
-- goes out with the commit.
with next as (
    update publisher
    set gallery_version = gallery_version + 1
    where id = %(publisher)s
    returning gallery_version
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
order by r.id
limit %(limit)s

-- name: count_references
select count(*) from reference where publisher_id = %(publisher)s

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
-- The images are read from the state before the statement, so they are still there.
with deleted as (
    delete from reference
    where publisher_id = %(publisher)s and id = %(reference)s
    returning publisher_id, id
)
select i.id::text
from deleted d
left join reference_image i on i.publisher_id = d.publisher_id and i.reference_id = d.id
order by i.create_time, i.id

-- name: image_ids
select id::text
from reference_image
where publisher_id = %(publisher)s
order by id

-- name: count_images_without_features
select count(*)
from reference_image i
where not exists (
    select from image_features f
    where f.image_id = i.id and f.model_version = %(model_version)s
)

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
