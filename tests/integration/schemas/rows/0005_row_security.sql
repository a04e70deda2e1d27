-- It has no table of its own.
select;
