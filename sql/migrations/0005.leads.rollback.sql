drop function lead_body(leads, uuid, uuid);
drop table lead_offers;
drop table leads;
