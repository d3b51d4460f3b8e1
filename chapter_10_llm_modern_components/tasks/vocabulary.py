"""Words that questions are made of: three hundred short ones, first names, things to count.
出题用的词：三百个短词、一些人名，以及可以数的东西。
"""

LONGEST_WORD = 8  # letters
WORDS = """
apple arm army arrow aunt autumn baby back bag ball band bank barn basket bath beach bean bear beard bed bee bell bench
berry bird blanket boat body bone book boot bottle bowl box boy branch bread brick bridge brother brush bucket butter
button cake camel camp candle cap car carpet castle cat cave chain chair cheese cherry chest child church circle city
clock cloth cloud clown coat coin cook copper corn corner cotton cow crab cradle cream crow crown cup curtain dance
daughter day deer desk dinner dirt doctor dog doll donkey door dragon drawer dream dress drum duck dust ear earth egg
elbow engine evening eye face fairy farm farmer father feather fence field finger fire fish flag flame flour flower fly
fog foot forest fork fox friend frog fruit game garden gate ghost giant girl glass glove goat gold goose grass guest gun
hammer hand harbour hat hay head heart hen hill hole home honey hook horn horse house hunter ice ink iron island jam
jar jewel judge juice key king kitchen kite knee knife knight ladder lady lake lamb lamp leaf leg lemon letter light
lion lip lock maid map market meat milk mill mirror money monkey moon morning mother mountain mouse mouth mud nail name
neck needle nest net night noise north nose nut oak oil onion orange oven owl page paint palace paper parrot path peach
pear pen pencil pig pigeon pillow pin pipe plate pocket poet pond pot potato prince puppy queen rabbit rain rat ribbon
rice ring river road robin roof room root rope rose sailor salt sand school sea seed shadow sheep shell ship shirt shoe
shop silver sister sky smoke snail snake snow soap sock soldier song soup spider spoon spring square squirrel stable
stair star stone storm street string sugar summer sun swan sword table tail tailor teacher thread throat thumb tiger
tooth tower town toy train tree turtle uncle village voice wagon wall watch water wave well whale wheat wheel whistle
wind window winter wizard wolf woman wood worm yard
""".split()
NAMES = "Alice Anna Ben Clara Daisy Edward Ella Emma Frank Fred George Grace Helen Jack Jane John Lucy Mary Peter Tom"
NAMES = NAMES.split()
THINGS = "apples berries books buttons coins eggs flowers letters nuts pears shells stones".split()
