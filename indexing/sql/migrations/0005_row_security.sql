-- A second wall between publishers, below each statement's own condition: a transaction sees
-- and writes the rows of the publisher that it names as imagelink.publisher, of all where that
-- is '*' (no publisher's id), and of none where it names nobody. Forced, so that the tables'
-- owner is held too; superusers never are, and take the role of an ordinary user instead.

alter table image_features add column publisher_id text collate "C";

update image_features f
set publisher_id = i.publisher_id
from reference_image i
where i.id = f.image_id;

alter table image_features alter column publisher_id set not null;

create function is_confined_to(publisher_id text) returns boolean
    language sql stable parallel safe
    return current_setting('imagelink.publisher', true) in (publisher_id, '*');

alter table reference enable row level security, force row level security;
alter table reference_image enable row level security, force row level security;
alter table image_features enable row level security, force row level security;
alter table change enable row level security, force row level security;
alter table register_request enable row level security, force row level security;

create policy publisher on reference using (is_confined_to(publisher_id));
create policy publisher on reference_image using (is_confined_to(publisher_id));
create policy publisher on image_features using (is_confined_to(publisher_id));
create policy publisher on change using (is_confined_to(publisher_id));
create policy publisher on register_request using (is_confined_to(publisher_id));
