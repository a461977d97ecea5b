-- A small gazetteer: where people look, and every name they have for it.

create table places (
    id int primary key,
    parent_id int references places,
    kind text not null check (kind in ('city', 'sub_city', 'neighborhood')),
    country text not null check (country ~ '^[A-Z]{2}$'),
    name text not null check (length(name) between 1 and 200),
    -- Roughly its middle (WGS 84).
    latitude double precision not null check (latitude between -90 and 90),
    longitude double precision not null check (longitude between -180 and 180),
    -- About how many live there, where that is known: to show the greater first.
    population int check (population > 0)
);
create index places_parent on places (parent_id);

-- What is left of a name when only its letters count: Addis Abeba, addis-abeba and ADDIS ABEBA are one. Letters that
-- Amharic writes one for another, because they sound alike, count as the same: ሐዋሳ and ሀዋሳ, ዓድዋ and አድዋ.
create function place_key(name text) returns text language sql immutable parallel safe strict
return translate(regexp_replace(lower(name), '[^[:alnum:]]+', '', 'g'),
                 'ሃሐሑሒሓሔሕሖኀኁኂኃኄኅኆሠሡሢሣሤሥሦሧኣዐዑዒዓዔዕዖጸጹጺጻጼጽጾ',
                 'ሀሀሁሂሀሄህሆሀሁሂሀሄህሆሰሱሲሳሴስሶሷአአኡኢአኤእኦፀፁፂፃፄፅፆ');

create table place_names (
    place_id int not null references places,
    name text not null check (length(name) between 1 and 200),
    -- The language it is written in (ISO 639-1), and whether it is how the place is called there.
    language text not null check (language ~ '^[a-z]{2}$'),
    usual boolean not null default false,
    primary key (place_id, name)
);
create index place_names_key on place_names (place_key(name));

-- The place that these words mean: the neighbourhood or sub-city in that city where one has the name, else the city.
-- Null if the gazetteer knows neither.
create function place_of(wanted_country text, city text, neighborhood text) returns int
language sql stable parallel safe as $$
with town as (
    select places.id from place_names join places on places.id = place_id
    where place_key(place_names.name) = place_key($2) and kind = 'city' and country = $1
    order by places.id limit 1
)
select coalesce(
    (select places.id
     from place_names join places on places.id = place_id left join places as parent on parent.id = places.parent_id
     where place_key(place_names.name) = place_key($3)
       and (select id from town) in (places.parent_id, parent.parent_id)
     order by places.kind, places.id limit 1),
    (select id from town))
$$;

-- The places of this name, and all that lies in them.
create function places_within(wanted text) returns setof int language sql stable parallel safe strict as $$
with recursive inside as (
    select place_id as id from place_names where place_key(name) = place_key(wanted)
    union select places.id from places join inside on parent_id = inside.id
)
select id from inside
$$;

-- A place by its names in English and Amharic, as clients get it; null for none.
create function place_name(wanted int) returns jsonb language sql stable parallel safe strict as $$
select jsonb_build_object(
    'id', id, 'kind', kind, 'name', name,
    'name_am', (select place_names.name from place_names where place_id = places.id and language = 'am' and usual))
from places where id = wanted
$$;

-- Names of one language stand in one text, the usual one first. Who looks for a sub-city may also say that it is one.
with written (id, parent_id, kind, country, latitude, longitude, population, english, amharic, oromo) as (values
    -- Ethiopia: its cities.
    (1, null::int, 'city', 'ET', 9.0249::double precision, 38.7468::double precision, 3945000, 'Addis Ababa|Addis Abeba|Addis', 'አዲስ አበባ|አዲስ', 'Finfinnee'),
    (2, null, 'city', 'ET', 8.5400, 39.2700, 435000, 'Adama|Nazret|Nazareth|Nazreth', 'አዳማ|ናዝሬት', 'Adaamaa'),
    (3, null, 'city', 'ET', 14.2800, 39.4600, 90000, 'Adigrat', 'አዲግራት|ዓዲግራት', null),
    (4, null, 'city', 'ET', 14.1667, 38.9000, 60000, 'Adwa|Adowa|Aduwa', 'አድዋ', null),
    (5, null, 'city', 'ET', 8.9833, 37.8500, 90000, 'Ambo', 'አምቦ', 'Amboo'),
    (6, null, 'city', 'ET', 6.0333, 37.5500, 150000, 'Arba Minch|Arbaminch|Arba Mintch', 'አርባ ምንጭ', null),
    (7, null, 'city', 'ET', 7.9500, 39.1333, 120000, 'Asella|Assela|Asela', 'አሰላ', 'Asallaa'),
    (8, null, 'city', 'ET', 10.0667, 34.5333, 60000, 'Asosa|Assosa', 'አሶሳ', null),
    (9, null, 'city', 'ET', 14.1211, 38.7234, 75000, 'Axum|Aksum', 'አክሱም', null),
    (10, null, 'city', 'ET', 11.5936, 37.3908, 390000, 'Bahir Dar|Bahar Dar|Baherdar', 'ባሕር ዳር|ባህርዳር', null),
    (11, null, 'city', 'ET', 7.9333, 38.7167, 80000, 'Batu|Ziway|Zeway|Zwai', 'ባቱ|ዝዋይ', 'Baatuu'),
    (12, null, 'city', 'ET', 8.7500, 38.9833, 200000, 'Bishoftu|Debre Zeyit|Debre Zeit|Debrezeit', 'ቢሾፍቱ|ደብረ ዘይት', 'Bishooftuu'),
    (13, null, 'city', 'ET', 7.2667, 36.2333, 40000, 'Bonga', 'ቦንጋ', null),
    (14, null, 'city', 'ET', 9.0667, 38.6500, 150000, 'Burayu', 'ቡራዩ', 'Buraayyuu'),
    (15, null, 'city', 'ET', 8.1167, 38.3667, 60000, 'Butajira', 'ቡታጅራ', null),
    (16, null, 'city', 'ET', 9.6800, 39.5300, 140000, 'Debre Birhan|Debre Berhan|Debreberhan', 'ደብረ ብርሃን', null),
    (17, null, 'city', 'ET', 10.3500, 37.7333, 130000, 'Debre Markos|Debremarkos', 'ደብረ ማርቆስ', null),
    (18, null, 'city', 'ET', 11.8500, 38.0167, 90000, 'Debre Tabor|Debretabor', 'ደብረ ታቦር', null),
    (19, null, 'city', 'ET', 11.1333, 39.6333, 250000, 'Dessie|Dese|Desse|Dessye', 'ደሴ', null),
    (20, null, 'city', 'ET', 6.4100, 38.3100, 120000, 'Dilla|Dila', 'ዲላ', null),
    (21, null, 'city', 'ET', 9.5931, 41.8661, 450000, 'Dire Dawa|Diredawa|Dire', 'ድሬዳዋ|ድሬ', 'Dirree Dhawaa'),
    (22, null, 'city', 'ET', 10.7000, 37.2667, 45000, 'Finote Selam|Finoteselam', 'ፍኖተ ሰላም', null),
    (23, null, 'city', 'ET', 8.2500, 34.5833, 90000, 'Gambela|Gambella', 'ጋምቤላ', null),
    (24, null, 'city', 'ET', 7.0167, 39.9833, 55000, 'Goba', 'ጎባ', 'Gobbaa'),
    (25, null, 'city', 'ET', 5.9527, 43.5516, 70000, 'Gode', 'ጎዴ', null),
    (26, null, 'city', 'ET', 12.6030, 37.4521, 400000, 'Gondar|Gonder', 'ጎንደር', null),
    (27, null, 'city', 'ET', 9.3118, 42.1258, 150000, 'Harar|Harer', 'ሐረር', 'Harar Jugol'),
    (28, null, 'city', 'ET', 7.0621, 38.4764, 400000, 'Hawassa|Awasa|Awassa|Hawasa', 'ሐዋሳ|አዋሳ', null),
    (29, null, 'city', 'ET', 9.0667, 38.5000, 50000, 'Holeta|Holetta|Genet', 'ሆለታ', 'Holotaa'),
    (30, null, 'city', 'ET', 7.5500, 37.8500, 150000, 'Hosaena|Hossana|Hosanna|Hosana', 'ሆሳዕና|ሆሳና', null),
    (31, null, 'city', 'ET', 14.2930, 36.6100, 40000, 'Humera', 'ሁመራ', null),
    (32, null, 'city', 'ET', 9.3500, 42.8000, 200000, 'Jijiga|Jigjiga', 'ጅግጅጋ', null),
    (33, null, 'city', 'ET', 7.6734, 36.8344, 240000, 'Jimma|Jima', 'ጅማ', 'Jimmaa'),
    (34, null, 'city', 'ET', 11.0833, 39.7333, 120000, 'Kombolcha', 'ኮምቦልቻ', null),
    (35, null, 'city', 'ET', 12.0317, 39.0473, 25000, 'Lalibela', 'ላሊበላ', null),
    (36, null, 'city', 'ET', 9.0667, 38.9000, 60000, 'Legetafo|Legetafo Legedadi|Lege Tafo', 'ለገጣፎ|ለገጣፎ ለገዳዲ', null),
    (37, null, 'city', 'ET', 13.4967, 39.4753, 400000, 'Mekelle|Mekele|Makale', 'መቀሌ|መቐለ', null),
    (38, null, 'city', 'ET', 8.3000, 35.5833, 45000, 'Metu|Mettu', 'መቱ', 'Mattuu'),
    (39, null, 'city', 'ET', 6.9900, 35.5800, 50000, 'Mizan Teferi|Mizan Aman|Mizan', 'ሚዛን ተፈሪ|ሚዛን አማን', null),
    (40, null, 'city', 'ET', 8.5870, 39.1210, 60000, 'Mojo|Modjo', 'ሞጆ', 'Moojoo'),
    (41, null, 'city', 'ET', 3.5270, 39.0560, 45000, 'Moyale', 'ሞያሌ', null),
    (42, null, 'city', 'ET', 5.3333, 39.5833, 50000, 'Negele Borana|Negelle', 'ነገሌ ቦረና|ነገሌ', null),
    (43, null, 'city', 'ET', 9.0833, 36.5500, 140000, 'Nekemte|Nekemt|Lekemt', 'ነቀምቴ|ነቀምት', 'Naqamtee'),
    (44, null, 'city', 'ET', 7.1167, 40.0000, 75000, 'Robe|Bale Robe', 'ሮቤ|ባሌ ሮቤ', 'Roobee'),
    (45, null, 'city', 'ET', 8.9167, 38.6167, 130000, 'Sebeta|Sabata', 'ሰበታ', 'Sabbataa'),
    (46, null, 'city', 'ET', 11.7922, 41.0061, 30000, 'Semera', 'ሰመራ', null),
    (47, null, 'city', 'ET', 7.2000, 38.6000, 190000, 'Shashamane|Shashemene|Shashamene', 'ሻሸመኔ', 'Shaashamannee'),
    (48, null, 'city', 'ET', 14.1031, 38.2829, 75000, 'Shire|Shire Inda Selassie|Inda Selassie', 'ሽሬ|እንዳ ሥላሴ', null),
    (49, null, 'city', 'ET', 9.1833, 38.7500, 60000, 'Sululta', 'ሱሉልታ', 'Sulultaa'),
    (50, null, 'city', 'ET', 8.2833, 37.7833, 60000, 'Welkite|Wolkite', 'ወልቂጤ', null),
    (51, null, 'city', 'ET', 6.8600, 37.7600, 190000, 'Wolaita Sodo|Sodo|Wolayta Sodo|Soddo', 'ወላይታ ሶዶ|ሶዶ', null),
    (52, null, 'city', 'ET', 11.8333, 39.6000, 75000, 'Woldia|Weldiya|Woldiya', 'ወልዲያ|ወልድያ', null),
    (53, null, 'city', 'ET', 8.5333, 37.9667, 70000, 'Woliso|Waliso|Weliso', 'ወሊሶ', 'Walisoo'),
    -- Addis Ababa: the sub-cities, as many living there as were counted in 2023.
    (101, 1, 'sub_city', 'ET', 9.0370, 38.7340, 367651, 'Addis Ketema', 'አዲስ ከተማ', null),
    (102, 1, 'sub_city', 'ET', 8.8900, 38.7850, 260967, 'Akaki Kality|Akaki Kaliti|Akaki', 'አቃቂ ቃሊቲ|አቃቂ', null),
    (103, 1, 'sub_city', 'ET', 9.0370, 38.7530, 304610, 'Arada', 'አራዳ', null),
    (104, 1, 'sub_city', 'ET', 8.9900, 38.7950, 445013, 'Bole', 'ቦሌ', null),
    (105, 1, 'sub_city', 'ET', 9.0610, 38.7400, 385332, 'Gulele|Gullele', 'ጉለሌ', null),
    (106, 1, 'sub_city', 'ET', 9.0030, 38.7620, 318634, 'Kirkos|Qirqos|Cherkos', 'ቂርቆስ|ጨርቆስ', null),
    (107, 1, 'sub_city', 'ET', 9.0130, 38.7020, 617526, 'Kolfe Keranio|Kolfe|Kolfe Keraniyo', 'ኮልፌ ቀራኒዮ|ኮልፌ', null),
    (108, 1, 'sub_city', 'ET', 9.0260, 38.8700, null, 'Lemi Kura|Lemmi Kurra', 'ለሚ ኩራ', null),
    (109, 1, 'sub_city', 'ET', 9.0100, 38.7330, 290466, 'Lideta|Ledeta', 'ልደታ', null),
    (110, 1, 'sub_city', 'ET', 8.9560, 38.7340, 455500, 'Nifas Silk-Lafto|Nefas Silk Lafto|Nifas Silk', 'ንፋስ ስልክ ላፍቶ|ነፋስ ስልክ ላፍቶ|ንፋስ ስልክ', null),
    (111, 1, 'sub_city', 'ET', 9.0330, 38.8000, 499301, 'Yeka', 'የካ', null),
    -- Addis Ababa: neighbourhoods, by sub-city.
    (201, 101, 'neighborhood', 'ET', 9.0270, 38.7330, null, 'Abinet|Abnet', 'አብነት', null),
    (202, 101, 'neighborhood', 'ET', 9.0350, 38.7330, null, 'Autobus Tera|Autobis Tera|Bus Station', 'አውቶቡስ ተራ|አውቶብስ ተራ', null),
    (203, 101, 'neighborhood', 'ET', 9.0400, 38.7380, null, 'Gojjam Berenda', 'ጎጃም በረንዳ', null),
    (204, 101, 'neighborhood', 'ET', 9.0340, 38.7410, null, 'Merkato|Mercato|Markato|Addis Mercato', 'መርካቶ', null),
    (205, 101, 'neighborhood', 'ET', 9.0390, 38.7330, null, 'Sebategna', 'ሰባተኛ', null),
    (206, 102, 'neighborhood', 'ET', 8.8710, 38.7900, null, 'Akaki Beseka|Akaki Town', 'አቃቂ በሰቃ', null),
    (207, 102, 'neighborhood', 'ET', 8.9040, 38.7700, null, 'Kality|Kaliti|Qality', 'ቃሊቲ', null),
    (208, 102, 'neighborhood', 'ET', 8.8960, 38.8170, null, 'Kilinto|Qilinto', 'ቂሊንጦ', null),
    (209, 102, 'neighborhood', 'ET', 8.9110, 38.8360, null, 'Koye Feche|Koye|Koye Fache', 'ኮዬ ፈጬ|ኮየ ፈጬ', null),
    (210, 102, 'neighborhood', 'ET', 8.9450, 38.7690, null, 'Saris Abo', 'ሳሪስ አቦ', null),
    (211, 102, 'neighborhood', 'ET', 8.8830, 38.8230, null, 'Tulu Dimtu|Tulu Dimitu', 'ቱሉ ዲምቱ', null),
    (212, 103, 'neighborhood', 'ET', 9.0290, 38.7760, null, 'Abware|Awarie|Aware', 'አቧሬ|አዋሬ', null),
    (213, 103, 'neighborhood', 'ET', 9.0400, 38.7630, null, 'Amist Kilo|5 Kilo|Amest Kilo|Five Kilo', 'አምስት ኪሎ|5 ኪሎ', null),
    (214, 103, 'neighborhood', 'ET', 9.0330, 38.7633, null, 'Arat Kilo|4 Kilo|Four Kilo|Aratkilo', 'አራት ኪሎ|4 ኪሎ', null),
    (215, 103, 'neighborhood', 'ET', 9.0250, 38.7510, null, 'Churchill|Churchill Road', 'ቸርችል', null),
    (216, 103, 'neighborhood', 'ET', 9.0300, 38.7720, null, 'Ginfle|Genfle|Ginfile', 'ግንፍሌ', null),
    (217, 103, 'neighborhood', 'ET', 9.0358, 38.7502, null, 'Piassa|Piazza|Piasa|Piaza', 'ፒያሳ|ፒያሣ|ፒአሳ', null),
    (218, 103, 'neighborhood', 'ET', 9.0390, 38.7550, null, 'Ras Mekonnen|Ras Mekonen', 'ራስ መኮንን', null),
    (219, 103, 'neighborhood', 'ET', 9.0460, 38.7620, null, 'Sidist Kilo|6 Kilo|Six Kilo|Sidest Kilo', 'ስድስት ኪሎ|6 ኪሎ', null),
    (220, 104, 'neighborhood', 'ET', 9.0020, 38.7810, null, 'Atlas|Bole Atlas', 'አትላስ', null),
    (221, 104, 'neighborhood', 'ET', 8.9935, 38.7905, null, 'Bole|Bole Road', 'ቦሌ', null),
    (222, 104, 'neighborhood', 'ET', 8.9480, 38.7930, null, 'Bole Bulbula|Bulbula', 'ቦሌ ቡልቡላ|ቡልቡላ', null),
    (223, 104, 'neighborhood', 'ET', 8.9690, 38.7870, null, 'Bole Homes', 'ቦሌ ሆምስ', null),
    (224, 104, 'neighborhood', 'ET', 8.9958, 38.7893, null, 'Bole Medhanialem|Bole Medhane Alem|Medhanialem|Edna Mall', 'ቦሌ መድኃኔዓለም|መድሃኒያለም|ኤድና ሞል', null),
    (225, 104, 'neighborhood', 'ET', 8.9750, 38.7760, null, 'Bole Michael|Bole Mikael', 'ቦሌ ሚካኤል', null),
    (226, 104, 'neighborhood', 'ET', 8.9960, 38.8120, null, 'Gerji|Gergi', 'ገርጂ', null),
    (227, 104, 'neighborhood', 'ET', 8.9890, 38.8560, null, 'Goro', 'ጎሮ', null),
    (228, 104, 'neighborhood', 'ET', 9.0100, 38.8440, null, 'Hayat', 'ሀያት', null),
    (229, 104, 'neighborhood', 'ET', 9.0090, 38.7930, null, 'Haya Arat|24|Haya Arat Mazoria', 'ሃያ አራት', null),
    (230, 104, 'neighborhood', 'ET', 9.0145, 38.7860, null, 'Haya Hulet|22|22 Mazoria|Hayahulet Mazoria', 'ሃያ ሁለት|ሃያ ሁለት ማዞሪያ', null),
    (231, 104, 'neighborhood', 'ET', 8.9990, 38.8040, null, 'Imperial', 'ኢምፔሪያል', null),
    (232, 104, 'neighborhood', 'ET', 8.9945, 38.8400, null, 'Jacros|Jackros|Jakros', 'ጃክሮስ', null),
    (233, 104, 'neighborhood', 'ET', 8.9880, 38.7790, null, 'Rwanda|Bole Rwanda', 'ሩዋንዳ', null),
    (234, 104, 'neighborhood', 'ET', 8.9925, 38.7725, null, 'Wollo Sefer|Welo Sefer|Wolo Sefer', 'ወሎ ሰፈር', null),
    (235, 105, 'neighborhood', 'ET', 9.0620, 38.7360, null, 'Addisu Gebeya|Adisu Gebeya', 'አዲሱ ገበያ', null),
    (236, 105, 'neighborhood', 'ET', 9.0800, 38.7620, null, 'Entoto', 'እንጦጦ', null),
    (237, 105, 'neighborhood', 'ET', 9.0480, 38.7330, null, 'Paster|Pasteur', 'ፓስተር', null),
    (238, 105, 'neighborhood', 'ET', 9.0560, 38.7250, null, 'Rufael', 'ሩፋኤል', null),
    (239, 105, 'neighborhood', 'ET', 9.0600, 38.7610, null, 'Shiro Meda|Shiromeda', 'ሽሮ ሜዳ', null),
    (240, 105, 'neighborhood', 'ET', 9.0470, 38.7190, null, 'Wingate|Winget', 'ዊንጌት', null),
    (241, 106, 'neighborhood', 'ET', 9.0180, 38.7600, null, 'Bambis', 'ባምቢስ', null),
    (242, 106, 'neighborhood', 'ET', 8.9975, 38.7590, null, 'Beklo Bet|Bekilo Bet', 'በቅሎ ቤት', null),
    (243, 106, 'neighborhood', 'ET', 8.9870, 38.7580, null, 'Gotera', 'ጎተራ', null),
    (244, 106, 'neighborhood', 'ET', 9.0160, 38.7660, null, 'Kazanchis|Kazanches|Kasanchis|Kazanchiz|Kasanches|Casanchis', 'ካዛንቺስ|ካሳንቺስ|ካዛንችስ|ካሳንችስ', null),
    (245, 106, 'neighborhood', 'ET', 8.9930, 38.7480, null, 'Kera|Qera', 'ቄራ', null),
    (246, 106, 'neighborhood', 'ET', 8.9930, 38.7610, null, 'Lancha', 'ላንቻ', null),
    (247, 106, 'neighborhood', 'ET', 9.0110, 38.7510, null, 'Legehar|Lagare|La Gare|Leghar', 'ለገሃር', null),
    (248, 106, 'neighborhood', 'ET', 9.0040, 38.7600, null, 'Meshualekia|Meshwalekia', 'መሿለኪያ', null),
    (249, 106, 'neighborhood', 'ET', 9.0102, 38.7613, null, 'Meskel Square|Meskel Adebabay|Abiot Square', 'መስቀል አደባባይ|አብዮት አደባባይ', null),
    (250, 106, 'neighborhood', 'ET', 9.0010, 38.7670, null, 'Olympia|Olimpia', 'ኦሎምፒያ|ኦሊምፒያ', null),
    (251, 106, 'neighborhood', 'ET', 8.9990, 38.7540, null, 'Riche', 'ሪቼ', null),
    (252, 106, 'neighborhood', 'ET', 9.0130, 38.7560, null, 'Stadium|Estadium', 'ስታዲየም|እስታዲየም', null),
    (253, 106, 'neighborhood', 'ET', 9.0110, 38.7720, null, 'Urael|Urael Church|Uraeil', 'ኡራኤል', null),
    (254, 107, 'neighborhood', 'ET', 9.0400, 38.7190, null, '18 Mazoria|Asra Simint|18', 'አስራ ስምንት|18 ማዞሪያ', null),
    (255, 107, 'neighborhood', 'ET', 9.0010, 38.6790, null, 'Alem Bank|Alembank', 'ዓለም ባንክ', null),
    (256, 107, 'neighborhood', 'ET', 9.0610, 38.6960, null, 'Asko|Asco', 'አስኮ', null),
    (257, 107, 'neighborhood', 'ET', 8.9870, 38.6990, null, 'Ayer Tena|Ayertena', 'አየር ጤና', null),
    (258, 107, 'neighborhood', 'ET', 9.0040, 38.6900, null, 'Betel|Bethel', 'ቤተል|ቤቴል', null),
    (259, 107, 'neighborhood', 'ET', 9.0110, 38.7210, null, 'Tor Hailoch|Tor Hayloch|Torhailoch', 'ጦር ኃይሎች', null),
    (260, 107, 'neighborhood', 'ET', 8.9960, 38.7150, null, 'Total Sost Kutir Mazoria|3 Kutir Mazoria|Total', 'ሦስት ቁጥር ማዞሪያ|ቶታል', null),
    (261, 107, 'neighborhood', 'ET', 8.9850, 38.7090, null, 'Zenebe Werk|Zenebework', 'ዘነበ ወርቅ', null),
    (262, 108, 'neighborhood', 'ET', 9.0290, 38.8720, null, 'Ayat|Ayat Village', 'አያት', null),
    (263, 108, 'neighborhood', 'ET', 9.0060, 38.8710, null, 'Beshale|Bole Beshale', 'በሻሌ|ቦሌ በሻሌ', null),
    (264, 108, 'neighborhood', 'ET', 8.9760, 38.8790, null, 'Bole Arabsa|Arabsa', 'ቦሌ አራብሳ|አራብሳ', null),
    (265, 108, 'neighborhood', 'ET', 9.0230, 38.8350, null, 'CMC|C M C|CMC Michael', 'ሲኤምሲ|ሲ ኤም ሲ', null),
    (266, 108, 'neighborhood', 'ET', 9.0060, 38.8420, null, 'Figa', 'ፊጋ', null),
    (267, 108, 'neighborhood', 'ET', 9.0050, 38.8560, null, 'Summit|Semit|Sumit', 'ሰሚት|ሳሚት', null),
    (268, 108, 'neighborhood', 'ET', 9.0590, 38.8810, null, 'Yeka Abado|Abado', 'የካ አባዶ|አባዶ', null),
    (269, 109, 'neighborhood', 'ET', 9.0150, 38.7410, null, 'Balcha', 'ባልቻ', null),
    (270, 109, 'neighborhood', 'ET', 9.0160, 38.7300, null, 'Coca|Coca Mazoria', 'ኮካ', null),
    (271, 109, 'neighborhood', 'ET', 9.0110, 38.7360, null, 'Lideta Church|Lideta Mariam', 'ልደታ ማርያም', null),
    (272, 109, 'neighborhood', 'ET', 9.0080, 38.7480, null, 'Mexico|Mexico Square|Meksiko', 'ሜክሲኮ|ሜክሲኮ አደባባይ', null),
    (273, 109, 'neighborhood', 'ET', 9.0130, 38.7480, null, 'Senga Tera|Sengatera', 'ሰንጋ ተራ', null),
    (274, 109, 'neighborhood', 'ET', 9.0270, 38.7430, null, 'Tekle Haymanot|Teklehaimanot|Tekle Haimanot', 'ተክለ ሃይማኖት', null),
    (275, 110, 'neighborhood', 'ET', 8.9960, 38.7350, null, 'Bisrate Gabriel|Bisrate Gebriel', 'ብስራተ ገብርኤል', null),
    (276, 110, 'neighborhood', 'ET', 8.9960, 38.7450, null, 'Bulgaria', 'ቡልጋሪያ', null),
    (277, 110, 'neighborhood', 'ET', 8.9220, 38.7070, null, 'Furi', 'ፉሪ', null),
    (278, 110, 'neighborhood', 'ET', 8.9690, 38.7280, null, 'German Square|German|Jermen', 'ጀርመን አደባባይ|ጀርመን', null),
    (279, 110, 'neighborhood', 'ET', 8.9690, 38.7440, null, 'Gofa|Gofa Sefer', 'ጎፋ', null),
    (280, 110, 'neighborhood', 'ET', 8.9390, 38.7370, null, 'Haile Garment|Hayle Garment', 'ኃይሌ ጋርመንት', null),
    (281, 110, 'neighborhood', 'ET', 8.9310, 38.7480, null, 'Hana Mariam|Hanna Mariam', 'ሐና ማርያም', null),
    (282, 110, 'neighborhood', 'ET', 8.9580, 38.7090, null, 'Jemo|Jemmo', 'ጀሞ', null),
    (283, 110, 'neighborhood', 'ET', 8.9520, 38.7480, null, 'Lafto', 'ላፍቶ', null),
    (284, 110, 'neighborhood', 'ET', 8.9480, 38.7190, null, 'Lebu|Lebu Mebrat', 'ለቡ|ለቡ መብራት', null),
    (285, 110, 'neighborhood', 'ET', 8.9800, 38.7350, null, 'Mekanisa|Mekanissa|Mekanisa Abo', 'መካኒሳ', null),
    (286, 110, 'neighborhood', 'ET', 8.9950, 38.7300, null, 'Old Airport|Old Air Port', 'ኦልድ ኤርፖርት|አሮጌ ኤርፖርት|ድሮ አውሮፕላን ማረፊያ', null),
    (287, 110, 'neighborhood', 'ET', 8.9930, 38.7370, null, 'Sarbet|Sar Bet', 'ሳር ቤት', null),
    (288, 110, 'neighborhood', 'ET', 8.9620, 38.7620, null, 'Saris', 'ሳሪስ', null),
    (289, 110, 'neighborhood', 'ET', 8.9890, 38.7400, null, 'Vatican|Vatikan', 'ቫቲካን', null),
    (290, 111, 'neighborhood', 'ET', 9.0300, 38.7860, null, 'British Embassy|Ingliz Embassy', 'እንግሊዝ ኤምባሲ', null),
    (291, 111, 'neighborhood', 'ET', 9.0540, 38.7810, null, 'Ferensay|Ferensay Legasion|French Legation', 'ፈረንሳይ|ፈረንሳይ ለጋሲዮን', null),
    (292, 111, 'neighborhood', 'ET', 9.0480, 38.8640, null, 'Kara', 'ካራ', null),
    (293, 111, 'neighborhood', 'ET', 9.0330, 38.8330, null, 'Kotebe|Kottebe', 'ኮተቤ', null),
    (294, 111, 'neighborhood', 'ET', 9.0270, 38.8170, null, 'Lamberet|Lambert', 'ላምበረት', null),
    (295, 111, 'neighborhood', 'ET', 9.0200, 38.8000, null, 'Megenagna|Meganagna|Megenanya', 'መገናኛ', null),
    (296, 111, 'neighborhood', 'ET', 9.0270, 38.7940, null, 'Shola|Shola Gebeya', 'ሾላ', null),
    (297, 111, 'neighborhood', 'ET', 9.0240, 38.7860, null, 'Signal', 'ሲግናል', null),
    (298, 111, 'neighborhood', 'ET', 9.0370, 38.8260, null, 'Wosen|Wesen', 'ወሰን', null),
    -- Kenya.
    (401, null, 'city', 'KE', -1.2864, 36.8172, 4400000, 'Nairobi|Nairobi City', 'ናይሮቢ', null),
    (402, null, 'city', 'KE', 0.5143, 35.2698, 480000, 'Eldoret', 'ኤልዶሬት', null),
    (403, null, 'city', 'KE', -0.4536, 39.6461, 160000, 'Garissa', 'ጋሪሳ', null),
    (404, null, 'city', 'KE', -1.1714, 36.8356, 150000, 'Kiambu', 'ኪያምቡ', null),
    (405, null, 'city', 'KE', -0.0917, 34.7680, 400000, 'Kisumu', 'ኪሱሙ', null),
    (406, null, 'city', 'KE', 1.0157, 35.0062, 160000, 'Kitale', 'ኪታሌ', null),
    (407, null, 'city', 'KE', -1.5177, 37.2634, 150000, 'Machakos', 'ማቻኮስ', null),
    (408, null, 'city', 'KE', -3.2192, 40.1169, 120000, 'Malindi', 'ማሊንዲ', null),
    (409, null, 'city', 'KE', -4.0435, 39.6682, 1200000, 'Mombasa', 'ሞምባሳ', null),
    (410, null, 'city', 'KE', -0.7167, 36.4333, 200000, 'Naivasha', 'ናይቫሻ', null),
    (411, null, 'city', 'KE', -0.3031, 36.0800, 570000, 'Nakuru', 'ናኩሩ', null),
    (412, null, 'city', 'KE', -0.4201, 36.9476, 140000, 'Nyeri', 'ኒዬሪ', null),
    (413, null, 'city', 'KE', -1.1489, 36.9569, 370000, 'Ruiru', 'ሩይሩ', null),
    (414, null, 'city', 'KE', -1.0333, 37.0693, 280000, 'Thika', 'ቲካ', null),
    -- Tanzania.
    (415, null, 'city', 'TZ', -6.7924, 39.2083, 5380000, 'Dar es Salaam|Dar|Daressalaam', 'ዳሬ ሰላም|ዳር ኤስ ሳላም', null),
    (416, null, 'city', 'TZ', -3.3869, 36.6830, 620000, 'Arusha', 'አሩሻ', null),
    (417, null, 'city', 'TZ', -6.1630, 35.7516, 770000, 'Dodoma', 'ዶዶማ', null),
    (418, null, 'city', 'TZ', -8.9000, 33.4500, 540000, 'Mbeya', 'ምቤያ', null),
    (419, null, 'city', 'TZ', -6.8278, 37.6591, 470000, 'Morogoro', 'ሞሮጎሮ', null),
    (420, null, 'city', 'TZ', -3.3349, 37.3404, 220000, 'Moshi', 'ሞሺ', null),
    (421, null, 'city', 'TZ', -2.5164, 32.9175, 1100000, 'Mwanza', 'ምዋንዛ', null),
    (422, null, 'city', 'TZ', -5.0689, 39.0988, 390000, 'Tanga', 'ታንጋ', null),
    (423, null, 'city', 'TZ', -6.1659, 39.2026, 220000, 'Zanzibar City|Zanzibar|Unguja', 'ዛንዚባር', null),
    -- Uganda.
    (424, null, 'city', 'UG', 0.3476, 32.5825, 1800000, 'Kampala', 'ካምፓላ', null),
    (425, null, 'city', 'UG', 3.0201, 30.9110, 380000, 'Arua', 'አሩዋ', null),
    (426, null, 'city', 'UG', 0.0512, 32.4637, 110000, 'Entebbe', 'ኢንቴቤ|ኢንቴቢ', null),
    (427, null, 'city', 'UG', 0.6710, 30.2750, 130000, 'Fort Portal|Fortportal', 'ፎርት ፖርታል', null),
    (428, null, 'city', 'UG', 2.7746, 32.2990, 230000, 'Gulu', 'ጉሉ', null),
    (429, null, 'city', 'UG', 0.4244, 33.2041, 280000, 'Jinja', 'ጂንጃ', null),
    (430, null, 'city', 'UG', 2.2350, 32.9100, 240000, 'Lira', 'ሊራ', null),
    (431, null, 'city', 'UG', -0.3411, 31.7361, 290000, 'Masaka', 'ማሳካ', null),
    (432, null, 'city', 'UG', 1.0800, 34.1750, 290000, 'Mbale', 'ምባሌ', null),
    (433, null, 'city', 'UG', -0.6072, 30.6545, 260000, 'Mbarara', 'ምባራራ', null),
    (434, null, 'city', 'UG', 0.3533, 32.7553, 190000, 'Mukono', 'ሙኮኖ', null),
    -- Nairobi: neighbourhoods.
    (501, 401, 'neighborhood', 'KE', -1.2950, 36.8870, null, 'Donholm', 'ዶንሆልም', null),
    (502, 401, 'neighborhood', 'KE', -1.2740, 36.8510, null, 'Eastleigh|Little Mogadishu', 'ኢስሊ', null),
    (503, 401, 'neighborhood', 'KE', -1.3230, 36.9000, null, 'Embakasi', 'ኤምባካሲ', null),
    (504, 401, 'neighborhood', 'KE', -1.2330, 36.8100, null, 'Gigiri', 'ጊጊሪ', null),
    (505, 401, 'neighborhood', 'KE', -1.3280, 36.8790, null, 'Imara Daima', 'ኢማራ ዳይማ', null),
    (506, 401, 'neighborhood', 'KE', -1.3190, 36.7070, null, 'Karen', 'ካረን', null),
    (507, 401, 'neighborhood', 'KE', -1.2210, 36.8970, null, 'Kasarani', 'ካሳራኒ', null),
    (508, 401, 'neighborhood', 'KE', -1.3120, 36.7890, null, 'Kibera|Kibra', 'ኪቤራ', null),
    (509, 401, 'neighborhood', 'KE', -1.2790, 36.7830, null, 'Kileleshwa', 'ኪሌሌሽዋ', null),
    (510, 401, 'neighborhood', 'KE', -1.2894, 36.7869, null, 'Kilimani', 'ኪሊማኒ', null),
    (511, 401, 'neighborhood', 'KE', -1.3500, 36.7500, null, 'Lang''ata|Langata', 'ላንጋታ', null),
    (512, 401, 'neighborhood', 'KE', -1.2790, 36.7690, null, 'Lavington', 'ላቪንግተን', null),
    (513, 401, 'neighborhood', 'KE', -1.2540, 36.8370, null, 'Muthaiga', 'ሙታይጋ', null),
    (514, 401, 'neighborhood', 'KE', -1.2610, 36.8190, null, 'Parklands', 'ፓርክላንድስ', null),
    (515, 401, 'neighborhood', 'KE', -1.2180, 36.8860, null, 'Roysambu', 'ሮይሳምቡ', null),
    (516, 401, 'neighborhood', 'KE', -1.2190, 36.8150, null, 'Runda', 'ሩንዳ', null),
    (517, 401, 'neighborhood', 'KE', -1.3110, 36.8370, null, 'South B', 'ሳውዝ ቢ', null),
    (518, 401, 'neighborhood', 'KE', -1.3200, 36.8270, null, 'South C', 'ሳውዝ ሲ', null),
    (519, 401, 'neighborhood', 'KE', -1.2990, 36.8130, null, 'Upper Hill|Upperhill', 'አፐር ሂል', null),
    (520, 401, 'neighborhood', 'KE', -1.2676, 36.8108, null, 'Westlands|Westie', 'ዌስትላንድስ', null)
), placed as (
    insert into places (id, parent_id, kind, country, name, latitude, longitude, population)
    select id, parent_id, kind, country, split_part(english, '|', 1), latitude, longitude, population from written
), named as (
    select id, name, language, place
    from written
    cross join lateral (values ('en', english), ('am', amharic), ('om', oromo)) as said (language, names)
    cross join lateral unnest(string_to_array(names, '|')) with ordinality as listed (name, place)
    union all
    select id, split_part(english, '|', 1) || ' Sub City', 'en', 99 from written where kind = 'sub_city'
    union all
    select id, split_part(amharic, '|', 1) || ' ክፍለ ከተማ', 'am', 99 from written where kind = 'sub_city'
)
insert into place_names (place_id, name, language, usual) select id, name, language, place = 1 from named;
