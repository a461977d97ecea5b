-- A market of 2,000 active properties and 10,000 people who are signed in, the same rows on every side.
-- Moments have whole milliseconds, which is all that both sides print.

insert into users (id, email, phone, password_hash, full_name, role, is_verified, created_at, updated_at)
select md5('user' || n)::uuid, 'person' || n || '@bench.key2key.example', '+2519' || lpad(n::text, 8, '0'), 'none',
       'Person Number ' || n, (array['buyer', 'seller', 'agent'])[1 + n % 3], n % 2 = 0,
       timestamptz '2026-01-01' + n * interval '61 seconds 7 ms', timestamptz '2026-06-01' + n * interval '31 seconds'
from generate_series(1, 10000) as n;

insert into sign_ins (id, user_id, device, created_at)
select md5('sign-in' || n)::uuid, md5('user' || n)::uuid, 'Key2Key/1.0 (Android 15)', timestamptz '2026-09-01'
from generate_series(1, 10000) as n;

insert into listings (id, kind, owner_id, title, description, listing_type, price, status, address, neighborhood, city,
                      latitude, longitude, view_count, is_featured, language, published_at, created_at, updated_at)
select md5('listing' || n)::uuid, 'property', md5('user' || 1 + n % 500)::uuid,
       'Home number ' || n || ' with a view of the hills',
       case when n % 3 = 0 then 'ሁለተኛ ፎቅ፣ ውሃና መብራት የማይቋረጥበት፣ ካርታው የተዘጋጀ። '
            else 'Two floors on a quiet lane, a well, a garden and room for cars; the owner answers in the evening. '
       end || repeat('Close to schools. ', n % 5),
       (array['sale', 'rent'])[1 + n % 2], 900000 + n * 1250.50, 'active',
       'Street ' || n % 90, (array['Bole', 'CMC', 'Piassa', 'Ayat'])[1 + n % 4], 'Addis Ababa',
       8.95 + (n % 97) * 0.001, 38.71 + (n % 89) * 0.0015, n * 7 % 1000, n % 20 = 0,
       case when n % 3 = 0 then 'am' else 'en' end, moment, moment, moment + interval '1 hour 1 ms'
from generate_series(1, 2000) as n, lateral (select timestamptz '2026-03-01' + n * interval '901 seconds 11 ms') as m (moment);

insert into properties (id, property_type, bedrooms, bathrooms, square_meters, year_built)
select md5('listing' || n)::uuid, (array['house', 'apartment', 'condo', 'villa', 'land'])[1 + n % 5],
       nullif(n % 6, 0), nullif(n % 4, 0), 40.5 + n % 300, case when n % 5 = 4 then null else 1990 + n % 36 end
from generate_series(1, 2000) as n;

vacuum analyze;
