-- An agency's desk is found in the index alone.
create index leads_agency on leads (agency_id, created_at desc, id desc)
    where agency_id is not null and status <> 'closed';
